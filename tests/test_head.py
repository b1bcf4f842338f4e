"""Head: channels, decision, inverse, target."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import IGNORE, Labels, Region

LABELS = Labels({"liver": (5,), "tumour": (7, 8), "vessel": (2,)}, ignore=99)
REGIONS = Labels(
    LABELS.values,
    regions=(Region("organ", ("liver", "tumour"), "liver"), Region("lesion", ("tumour",), "tumour")),
)
SOFTMAX = Head("softmax", LABELS)
SIGMOID = Head("sigmoid", LABELS)
UNIONS = Head("regions", REGIONS)


def voxel(*channels: float) -> torch.Tensor:
    return torch.tensor(channels).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("head", "channels", "names", "targets"),
    [
        (SOFTMAX, 4, ("liver", "tumour", "vessel"), ((1,), (2,), (3,))),
        (SIGMOID, 3, ("liver", "tumour", "vessel"), ((1,), (2,), (3,))),
        (UNIONS, 2, ("organ", "lesion"), ((1, 2), (2,))),
    ],
)
def test_channels_and_what_they_stand_for(head, channels, names, targets):
    assert head.channels == channels
    assert head.target_names == names
    assert head.targets == targets


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("argmax", LABELS), "head.kind: 'argmax' is unknown"),
        (("sigmoid", LABELS, 1.0), "head.threshold: 1.0"),
        (("regions", LABELS), "add labels.regions"),
    ],
)
def test_an_impossible_head_is_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        Head(*arguments)


def test_logits_of_another_head_are_refused_with_both_channel_counts():
    with pytest.raises(UserError, match=r"\(2, 3, 4, 4, 4\).*liver, tumour, vessel expects \(\.\.\., 4, x, y, z\)"):
        SOFTMAX.check(torch.zeros(2, 3, 4, 4, 4))


@pytest.mark.parametrize("logits", [torch.zeros(4, 4, 4), torch.zeros(4, 2, 2, 2, dtype=torch.int32)])
def test_logits_of_too_few_axes_or_of_integers_are_refused(logits):
    with pytest.raises(UserError, match="network output"):
        SOFTMAX.decide(logits)


def test_softmax_decides_for_the_largest_and_the_first_of_equals():
    assert SOFTMAX.decide(voxel(0.0, -1.0, 3.0, 2.0)) == 2
    assert SOFTMAX.decide(voxel(0.0, 0.0, 0.0, 0.0)) == 0
    assert SOFTMAX.decide(voxel(-1.0, 4.0, 4.0, 4.0)) == 1


def test_sigmoid_decides_for_the_most_probable_that_reaches_the_threshold():
    assert SIGMOID.decide(voxel(1.0, 2.0, -1.0)) == 2
    assert SIGMOID.decide(voxel(2.0, 2.0, 2.0)) == 1
    assert SIGMOID.decide(voxel(-0.1, -0.2, -0.3)) == 0
    assert SIGMOID.decide(voxel(-5.0, -5.0, 0.0)) == 3  # a probability of exactly one half is at the threshold


def test_later_regions_overwrite_earlier_ones():
    assert UNIONS.decide(voxel(3.0, 1.0)) == 2
    assert UNIONS.decide(voxel(3.0, -1.0)) == 1
    assert UNIONS.decide(voxel(-3.0, 1.0)) == 2
    assert UNIONS.decide(voxel(-3.0, -1.0)) == 0


@pytest.mark.parametrize("threshold", [0.001, 0.1, 0.3, 0.5, 0.8, 0.999])
def test_the_threshold_in_logits_is_the_threshold_in_float32_probabilities(threshold):
    head = Head("sigmoid", Labels({"liver": (1,)}), threshold)
    exact = np.float32(np.log(threshold / (1 - threshold)))
    near = exact + np.spacing(max(abs(exact), np.float32(1e-3))) * np.arange(-40, 41, dtype=np.float32)
    probability = (1 / (1 + np.exp(-near.astype(np.float64)))).astype(np.float32)
    logits = torch.from_numpy(near).view(1, 1, 1, -1)
    assert (head.decide(logits)[0, 0].numpy() == (probability >= np.float32(threshold))).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("head", [SOFTMAX, SIGMOID, UNIONS])
def test_deciding_takes_any_leading_axes_and_type_and_agrees_with_probabilities(head, dtype):
    logits = (3 * torch.randn(2, 3, head.channels, 5, 6, 7, generator=torch.Generator().manual_seed(1))).to(dtype)
    probability = head.probability(logits)
    decided = head.decide(logits)
    assert decided.dtype == torch.uint8
    assert decided.shape == (2, 3, 5, 6, 7)
    if head.kind == "softmax":
        expected = probability.argmax(2)
    elif head.kind == "sigmoid":
        best = probability.argmax(2)
        expected = torch.where((probability >= 0.5).any(2), best + 1, 0)
    else:
        organ, lesion = (probability >= 0.5).unbind(2)
        expected = torch.where(lesion, 2, torch.where(organ, 1, 0))
    assert torch.equal(decided.long(), expected)


@pytest.mark.parametrize("head", [SOFTMAX, SIGMOID, UNIONS])
def test_logits_invert_probability(head):
    logits = 4 * torch.randn(2, head.channels, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    probability = head.probability(logits)
    torch.testing.assert_close(head.probability(head.logits(probability)), probability, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("head", [SOFTMAX, SIGMOID, UNIONS])
def test_certain_probabilities_become_finite_logits_that_still_decide(head):
    probability = torch.zeros(head.channels, 1, 1, 1)
    probability[1] = 1
    logits = head.logits(probability)
    assert torch.isfinite(logits).all()
    assert head.decide(logits) == {"softmax": 1, "sigmoid": 2, "regions": 2}[head.kind]


def test_targets_at_full_resolution():
    labels = torch.tensor([0, 1, 2, 3, IGNORE], dtype=torch.uint8).view(1, 5, 1, 1)
    shares, valid = SOFTMAX.target(labels)
    assert valid.flatten().tolist() == [True, True, True, True, False]
    assert shares[0, :, :, 0, 0].T.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert SIGMOID.target(labels)[0][0, :, :, 0, 0].T.tolist() == [
        [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0],
    ]  # fmt: skip
    assert UNIONS.target(labels)[0][0, :, :, 0, 0].T.tolist() == [[0, 0], [1, 0], [1, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize("head", [SOFTMAX, SIGMOID, UNIONS])
def test_one_voxel_survives_at_an_eighth_of_the_resolution(head):
    labels = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
    labels[0, 11, 3, 7] = 2
    shares, valid = head.target(labels, (2, 2, 2))
    channel = shares[0, head.channel_names.index("lesion" if head.kind == "regions" else "tumour")]
    assert channel[1, 0, 0] == 1 / 512
    assert channel.sum() == 1 / 512
    assert valid.all()


def test_shares_are_those_of_the_valid_voxels():
    labels = torch.tensor([1, IGNORE, 0, 1, IGNORE, IGNORE], dtype=torch.uint8).view(1, 6, 1, 1)
    shares, valid = SOFTMAX.target(labels, (3, 1, 1))
    assert valid.flatten().tolist() == [True, True, False]
    assert shares[0, 1].flatten().tolist() == [1, 0.5, 0]
    assert shares[0, 0].flatten().tolist() == [0, 0.5, 0]


@settings(max_examples=30)
@given(
    arrays(np.uint8, (2, 7, 5, 6), elements=st.sampled_from([0, 1, 2, 3, IGNORE])),
    st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(1, 6)),
)
def test_softmax_shares_sum_to_one_where_valid_and_lose_no_class(labels, shape):
    shares, valid = SOFTMAX.target(torch.from_numpy(labels), shape)
    torch.testing.assert_close(shares.sum(1, keepdim=True), valid.float())
    for sample in range(2):
        found = set(np.unique(labels[sample])) - {IGNORE}
        assert {c for c in range(4) if (shares[sample, c] > 0).any()} == found
