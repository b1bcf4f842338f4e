"""What holds for every loss under every head: finite, not negative, additive, and what it refuses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import UserError
from pipeline.labels import IGNORE

SHAPE = (4, 3, 5)
ANY_HEAD = {
    **{name: {"name": name} for name in ("dice", "focal", "tversky", "focal_tversky", "generalised_dice", "topk")},
    "dice_topk": {"name": "dice_topk"},
    "structure": {"name": "structure", "box_vox": 3},
    "boundary": {"boundary": 0.5},
    "boundary without warm-up": {"boundary": 0.5, "boundary_warm_up": False},
}
UNDER = {
    "softmax": {
        **ANY_HEAD,
        "dice_ce": {"name": "dice_ce"},
        "ce": {"name": "ce"},
        "tubes": {"tubes": ["liver", "vessel"]},
    },
    "sigmoid": {**ANY_HEAD, "bce_dice": {}, "bce": {"name": "bce"}, "tubes": {"tubes": ["liver", "vessel"]}},
    "regions": {**ANY_HEAD, "bce_dice": {}, "bce": {"name": "bce"}, "tubes": {"tubes": ["lesion"]}},
}
EVERY_LOSS = pytest.mark.parametrize(
    ("kind", "keys"),
    [pytest.param(kind, keys, id=f"{kind} {name}") for kind, losses in UNDER.items() for name, keys in losses.items()],
)

logit = st.floats(-1e4, 1e4, width=32) | st.sampled_from([-1e4, -20.0, 0.0, 20.0, 1e4])
labels_of_any_kind = (
    arrays(np.uint8, (2, *SHAPE), elements=st.sampled_from([0, 1, 2, 3, IGNORE]))
    | st.sampled_from([0, 1, 3, IGNORE]).map(lambda value: np.full((2, *SHAPE), value, np.uint8))
)  # fmt: skip


def perfect(head, labels, certainty=30.0):
    return certainty * (2 * head.target(labels)[0] - 1)


@EVERY_LOSS
@settings(max_examples=25)
@given(data=st.data())
def test_it_is_finite_and_not_negative_with_finite_gradients(kind, keys, data, make_loss, heads):
    """Up to logits of 1e4, at full and at half resolution, whatever the labels, smooth, gamma and Dice rule are."""
    loss = make_loss(
        kind,
        **keys,
        smooth=data.draw(st.sampled_from([1e-10, 1e-5, 1.0])),
        gamma=data.draw(
            st.sampled_from([0.3, 1.0, 2.0] if keys.get("name") == "focal_tversky" else [0.0, 0.3, 1.0, 2.0])
        ),
        dice_over=data.draw(st.sampled_from(["present", "all"])),
    )
    shapes = ((2, heads[kind].channels, *SHAPE), (2, heads[kind].channels, 2, 2, 2))
    outputs = [torch.from_numpy(data.draw(arrays(np.float32, shape, elements=logit))) for shape in shapes]
    labels = torch.from_numpy(data.draw(labels_of_any_kind))
    outputs = [output.requires_grad_() for output in outputs]
    value = loss(outputs, labels)
    value.mean().backward()
    assert value.shape == (2,)
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()
    assert (value >= 0).all()
    assert all(torch.isfinite(output.grad).all() for output in outputs)


@EVERY_LOSS
@pytest.mark.parametrize("value", [65504.0, -65504.0])
def test_the_whole_range_of_half_precision_gives_a_finite_loss_and_gradient(kind, keys, value, make_loss, heads):
    logits = torch.full((1, heads[kind].channels, 24, 24, 24), -value, dtype=torch.float16)
    logits[:, 1] = value
    logits.requires_grad_()
    labels = torch.zeros(1, 24, 24, 24, dtype=torch.uint8)
    labels[:, :12] = 3
    result = make_loss(kind, **keys)(logits, labels)
    result.mean().backward()
    assert result.dtype == torch.float32
    assert torch.isfinite(result).all()
    assert torch.isfinite(logits.grad).all()


@EVERY_LOSS
def test_all_ignored_gives_zero_with_gradient_zero(kind, keys, make_loss, heads, random_case):
    logits, labels = random_case(heads[kind].channels)
    logits.requires_grad_()
    value = make_loss(kind, **keys)([logits, logits[..., ::2]], torch.full_like(labels, IGNORE))
    value.mean().backward()
    assert value.tolist() == [0, 0]
    assert (logits.grad == 0).all()


@EVERY_LOSS
def test_ignored_voxels_change_neither_loss_nor_gradient(kind, keys, make_loss, heads, random_case):
    logits, labels = random_case(heads[kind].channels)
    labels[:, :2] = IGNORE
    changed = logits.clone()
    changed[:, :, :2] = 77
    values, gradients = [], []
    for given_logits in (logits.requires_grad_(), changed.requires_grad_(), logits[:, :, 2:]):
        given_labels = labels[:, 2:] if given_logits.shape[2] == 3 else labels
        values.append(make_loss(kind, **keys)(given_logits, given_labels))
        gradients.append(torch.autograd.grad(values[-1].sum(), given_logits)[0])
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(values[2], values[0])
    assert (gradients[0][:, :, :2] == 0).all()
    assert (gradients[1][:, :, :2] == 0).all()
    torch.testing.assert_close(gradients[2], gradients[0][:, :, 2:])


@EVERY_LOSS
@pytest.mark.parametrize("content", ["every class", "one class", "background only", "no background"])
@pytest.mark.parametrize("over", ["present", "all"])
def test_perfect_logits_give_nearly_zero_and_wrong_ones_do_not(
    kind, keys, content, over, make_loss, heads, random_case
):
    labels = random_case(1)[1]
    if content != "every class":
        labels = torch.full_like(labels, {"one class": 2, "background only": 0, "no background": 1}[content])
        labels[:, 0] = 0 if content == "one class" else labels[0, 0, 0, 0]
    loss = make_loss(kind, **keys, dice_over=over)
    right = perfect(heads[kind], labels)
    assert (loss(right, labels) < 1e-4).all()
    # Dice is 0.2 where a third of p falsely goes to each class: 1/3 / (2/3 + 1); Tversky 0.2 / (4/3 + 0.2)
    assert (loss(-right, labels) > 0.13).all()


@EVERY_LOSS
def test_micro_batches_add_up_to_the_batch(kind, keys, make_loss, heads, random_case):
    logits, labels = random_case(heads[kind].channels)
    labels[1] = 0
    labels[1, 0] = IGNORE
    loss = make_loss(kind, **keys)
    one_by_one = torch.cat([loss(logits[i : i + 1], labels[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(loss(logits, labels), one_by_one)


@EVERY_LOSS
def test_autocast_does_not_change_it(kind, keys, make_loss, heads, random_case):
    logits, labels = random_case(heads[kind].channels)
    loss = make_loss(kind, **keys)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, labels)
    assert torch.equal(inside, loss(logits, labels))


@EVERY_LOSS
def test_one_voxel_at_an_eighth_of_the_resolution_still_pulls_its_class_up(kind, keys, make_loss, heads):
    labels = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
    labels[0, 11, 3, 7] = 2
    lowest = torch.full((1, heads[kind].channels, 2, 2, 2), -9.0)
    if kind == "softmax":
        lowest[:, 0] = 9
    lowest.requires_grad_()
    make_loss(kind, **keys)(lowest, labels).sum().backward()
    lesion = {"softmax": 2, "sigmoid": 1, "regions": 1}[kind]
    assert lowest.grad[0, lesion, 1, 0, 0] < 0
    elsewhere = lowest.grad[0, lesion].flatten()[[0, 1, 2, 3, 5, 6, 7]]
    assert (elsewhere == 0 if keys.get("name") == "topk" else elsewhere > 0).all()


@EVERY_LOSS
def test_sizes_that_do_not_divide_are_taken(kind, keys, make_loss, heads, random_case):
    _, labels = random_case(1)
    coarse = torch.zeros(2, heads[kind].channels, 3, 2, 3)
    assert torch.isfinite(make_loss(kind, **keys)(coarse, labels)).all()


@pytest.mark.parametrize(("weights", "shares"), [((), (4 / 7, 2 / 7, 1 / 7)), ((3.0, 1.0, 1.0), (0.6, 0.2, 0.2))])
def test_outputs_are_averaged_by_normalised_weights(weights, shares, make_loss, random_case):
    logits, labels = random_case(4)
    outputs = [logits, logits[:, :, ::2, ::2, ::2], -logits]
    loss = make_loss("softmax", head_weights=weights)
    alone = [make_loss("softmax")(output, labels) for output in outputs]
    expected = sum(share * value for share, value in zip(shares, alone, strict=True))
    torch.testing.assert_close(loss(outputs, labels), expected)


def test_forward_is_the_weighted_sum_of_the_parts(make_loss, random_case):
    logits, labels = random_case(4)
    loss = make_loss("softmax", name="dice_ce", alpha=0.3)
    parts = loss.parts([logits, logits[..., ::2]], labels)
    assert set(parts) == {"dice", "ce"}
    torch.testing.assert_close(loss([logits, logits[..., ::2]], labels), 0.3 * parts["dice"] + 0.7 * parts["ce"])
    torch.testing.assert_close(loss.total(parts), 0.3 * parts["dice"] + 0.7 * parts["ce"])


@pytest.mark.parametrize(("kind", "parts"), [("softmax", {"dice", "topk"}), ("sigmoid", {"bce", "dice"})])
def test_auto_follows_the_head(kind, parts, make_loss):
    assert make_loss(kind).shares == dict.fromkeys(parts, 0.5)


@pytest.mark.parametrize(
    ("kind", "keys", "said"),
    [
        ("softmax", {"name": "bce"}, "loss.name: bce does not fit head.kind softmax"),
        ("sigmoid", {"name": "dice_ce"}, "loss.name: dice_ce does not fit head.kind sigmoid"),
        ("sigmoid", {"name": "focal_tversky", "gamma": 0.0}, "loss.gamma: found 0, .*above 0"),
        ("softmax", {"class_weights": {"lever": 2.0}}, "lever has no channel.*background, liver, tumour, vessel"),
        ("sigmoid", {"class_weights": {"background": 2.0}}, "background has no channel under a sigmoid head"),
    ],
)
def test_a_loss_that_does_not_fit_the_head_is_refused(kind, keys, said, make_loss):
    with pytest.raises(UserError, match=said):
        make_loss(kind, **keys)


def test_head_weights_that_do_not_fit_the_outputs_are_refused(make_loss, random_case):
    logits, labels = random_case(4)
    with pytest.raises(UserError, match=r"net.head_weights: 3 weights, but the network returns 2 outputs"):
        make_loss("softmax", head_weights=(1, 1, 1))([logits, logits], labels)


def test_logits_of_another_head_are_refused(make_loss, random_case):
    logits, labels = random_case(3)
    with pytest.raises(UserError, match="network output has shape"):
        make_loss("softmax")(logits, labels)


def test_a_box_without_a_middle_is_refused(make_loss):
    with pytest.raises(ValueError, match="expected an odd number"):
        make_loss("softmax", name="structure", box_vox=4)


@pytest.mark.parametrize(("name", "gamma"), [("focal", 2.0), ("focal_tversky", 0.75)])
def test_the_focusing_power_is_the_published_one_unless_it_is_given(name, gamma, make_loss, random_case):
    logits, labels = random_case(4)
    default, same, other = (make_loss("softmax", name=name, gamma=power)(logits, labels) for power in (None, gamma, 1))
    assert torch.equal(default, same)
    assert (default != other).all()
