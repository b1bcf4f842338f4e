"""The closed forms: by hand, and equal to MONAI's and torch's where the definitions meet."""

import math

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss
from torch.nn import functional

from pipeline.labels import IGNORE


def test_dice_by_hand(make_loss, line, log_odds):
    # liver: sum p t = 0.8, sum p = 1.3, sum t = 1 -> 1 - (1.6 + 0.1) / (2.3 + 0.1)
    value = make_loss("sigmoid", name="dice", smooth=0.1)(log_odds(0.8, 0.5), line(1, 0))
    assert value.item() == pytest.approx(1 - 1.7 / 2.4, rel=1e-5)


def test_dice_over_all_classes_by_hand(make_loss, line, log_odds):
    # the two absent classes are found nowhere: 0 / (0 + smooth) = 0 each
    value = make_loss("sigmoid", name="dice", smooth=0.1, dice_over="all")(log_odds(0.8, 0.5), line(1, 0))
    assert value.item() == pytest.approx((1 - 1.7 / 2.4) / 3, rel=1e-5)


def test_dice_without_any_class_present_is_that_of_the_complement(make_loss, line, log_odds):
    # liver: sum p = 0.5 over 2 voxels -> 0.5 / (1.5 + 2 + smooth); the others are found nowhere
    logits = log_odds(0.3, 0.2).requires_grad_()
    value = make_loss("sigmoid", name="dice", smooth=0.1)(logits, line(0, 0))
    value.sum().backward()
    assert value.item() == pytest.approx(0.5 / 3.6 / 3, rel=1e-5)
    assert (logits.grad[0, 0] > 0.01).all()


def test_dice_weighs_classes_by_their_weight(make_loss, random_case):
    logits, labels = random_case(3)
    labels[labels == 3] = 0
    both, liver, tumour = (
        make_loss("sigmoid", name="dice", class_weights=weights)(logits, labels)
        for weights in ({"liver": 3.0, "tumour": 1.0}, {"liver": 1e6}, {"tumour": 1e6})
    )
    torch.testing.assert_close(both, 0.75 * liver + 0.25 * tumour)


def test_cross_entropy_by_hand(make_loss, line):
    # softmax over (0, ln 3, -inf, -inf): 1/4 and 3/4
    logits = torch.tensor([0.0, math.log(3), -200.0, -200.0]).view(1, 4, 1, 1, 1).expand(1, 4, 3, 1, 1)
    labels = line(0, 1, IGNORE)
    plain = (math.log(4) + math.log(4 / 3)) / 2
    assert make_loss("softmax", name="ce")(logits, labels).item() == pytest.approx(plain)
    weighted = (0.2 * math.log(4) + math.log(4 / 3)) / 1.2
    loss = make_loss("softmax", name="ce", class_weights={"background": 0.2})
    assert loss(logits, labels).item() == pytest.approx(weighted)


def test_cross_entropy_against_shares_by_hand(make_loss, line):
    # one coarse voxel over background, background, liver and an ignored one: shares 2/3 and 1/3
    logits = torch.tensor([0.0, math.log(3), -200.0, -200.0]).view(1, 4, 1, 1, 1)
    expected = 2 / 3 * math.log(4) + 1 / 3 * math.log(4 / 3)
    value = make_loss("softmax", name="ce")(logits, line(0, 0, 1, IGNORE))
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "regions"])
def test_shares_are_the_best_answer_at_low_resolution(kind, make_loss, heads, random_case):
    """Cross-entropy and Dice are both smallest where probabilities equal the shares."""
    head = heads[kind]
    _, labels = random_case(1)
    shares, _ = head.target(labels, (2, 3, 2))
    best = head.logits(shares)
    generator = torch.Generator().manual_seed(3)
    for name in ("dice", "ce" if kind == "softmax" else "bce"):
        loss = make_loss(kind, name=name, smooth=1e-5)
        for scale in (0.1, 1.0, 5.0):
            other = best + scale * torch.randn(best.shape, generator=generator)
            assert (loss(best, labels) < loss(other, labels)).all()
    assert (make_loss(kind, name="dice")(best, labels) < 1e-5).all()


def test_focal_by_hand(make_loss, line, log_odds):
    # voxel 1: truth liver, q = 1/4; voxel 2: truth background, q = 3/4, under one channel that matters
    values = 0.8 * 0.75**2 * math.log(4) + 0.2 * 0.25**2 * math.log(4 / 3)
    loss = make_loss("sigmoid", name="focal")
    assert loss(log_odds(0.25, 0.25), line(1, 0)).item() == pytest.approx(values / 6, rel=1e-5)


def test_focal_without_focus_is_half_of_cross_entropy(make_loss, random_case):
    for kind, channels, plain in (("softmax", 4, "ce"), ("sigmoid", 3, "bce"), ("regions", 2, "bce")):
        logits, labels = random_case(channels)
        focal = make_loss(kind, name="focal", alpha=0.5, gamma=0.0)
        torch.testing.assert_close(2 * focal(logits, labels), make_loss(kind, name=plain)(logits, labels))


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_alpha_is_the_share_of_dice(alpha, make_loss, random_case):
    logits, labels = random_case(4)
    dice, ce = (make_loss("softmax", name=name)(logits, labels) for name in ("dice", "ce"))
    both = make_loss("softmax", name="dice_ce", alpha=alpha)(logits, labels)
    torch.testing.assert_close(both, alpha * dice + (1 - alpha) * ce)


@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_softmax_dice_and_cross_entropy_equal_monai(smooth, make_loss, random_case):
    logits, labels = random_case(4)
    settings = {"include_background": False, "softmax": True, "smooth_nr": smooth, "smooth_dr": smooth}
    oracle = DiceCELoss(to_onehot_y=True, lambda_dice=0.3, lambda_ce=0.7, **settings)
    loss = make_loss("softmax", name="dice_ce", alpha=0.3, smooth=smooth)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value, expected = loss(ours, labels).mean(), oracle(theirs, labels[:, None])
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        torch.autograd.grad(value, ours)[0], torch.autograd.grad(expected, theirs)[0], atol=1e-7, rtol=1e-4
    )


def test_sigmoid_dice_equals_monai_with_empty_classes(make_loss, random_case, one_hot):
    logits, labels = random_case(3)
    labels[labels == 3] = 0
    labels[1] = 0
    oracle = DiceLoss(sigmoid=True, reduction="none")
    expected = oracle(logits, one_hot(labels)[:, 1:]).flatten(1).mean(1)
    torch.testing.assert_close(make_loss("sigmoid", name="dice", dice_over="all")(logits, labels), expected)


def test_dice_against_shares_equals_monai_soft_label(make_loss, heads, random_case):
    _, labels = random_case(4)
    logits = torch.randn(2, 4, 2, 3, 2, generator=torch.Generator().manual_seed(4))
    shares, _ = heads["softmax"].target(labels, (2, 3, 2))
    oracle = DiceLoss(include_background=False, softmax=True, soft_label=True)
    torch.testing.assert_close(make_loss("softmax", name="dice")(logits, labels).mean(), oracle(logits, shares))


def test_weighted_cross_entropy_equals_torch(make_loss, random_case):
    logits, labels = random_case(4)
    labels[0, 0] = IGNORE
    weights = {"background": 0.2, "liver": 1.0, "tumour": 4.0, "vessel": 2.5}
    loss = make_loss("softmax", name="ce", class_weights=weights)
    table = torch.tensor(list(weights.values()))
    expected = [
        functional.cross_entropy(logits[i : i + 1], labels[i : i + 1].long(), table, ignore_index=IGNORE)
        for i in range(2)
    ]
    torch.testing.assert_close(loss(logits, labels), torch.stack(expected))


def test_binary_cross_entropy_equals_torch(make_loss, heads, random_case):
    for kind in ("sigmoid", "regions"):
        logits, labels = random_case(heads[kind].channels)
        target, _ = heads[kind].target(labels)
        expected = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).mean(1)
        torch.testing.assert_close(make_loss(kind, name="bce")(logits, labels), expected)


def test_sigmoid_focal_equals_monai(make_loss, random_case, one_hot):
    logits, labels = random_case(3)
    oracle = FocalLoss(gamma=1.7, alpha=0.7)
    loss = make_loss("sigmoid", name="focal", gamma=1.7, alpha=0.7)
    torch.testing.assert_close(loss(logits, labels).mean(), oracle(logits, one_hot(labels)[:, 1:]))


def test_softmax_focal_equals_monai_but_for_the_number_of_channels(make_loss, random_case, one_hot):
    logits, labels = random_case(4)
    oracle = FocalLoss(gamma=2.0, alpha=0.7, use_softmax=True)
    loss = make_loss("softmax", name="focal", alpha=0.7)
    torch.testing.assert_close(loss(logits, labels).mean(), 4 * oracle(logits, one_hot(labels)))


def test_top_cross_entropy_by_hand(make_loss, line):
    # truth background in all: p = 1/4, 1/2 and next to 1; a tenth, and a half of four voxels
    logits = torch.zeros(1, 4, 5, 1, 1)
    logits[0, 2:] = -200
    logits[0, 0, :, 0, 0] = torch.tensor([-math.log(3), 0.0, 100.0, 100.0, -100.0])
    labels = line(0, 0, 0, 0, IGNORE)
    for fraction, expected in ((0.1, math.log(4)), (0.5, (math.log(4) + math.log(2)) / 2)):
        value = make_loss("softmax", name="topk", hardest=fraction)(logits, labels)
        assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "regions"])
def test_top_cross_entropy_of_all_voxels_is_cross_entropy(kind, make_loss, heads, random_case):
    logits, labels = random_case(heads[kind].channels)
    labels[0, 0] = IGNORE
    weights = {heads[kind].channel_names[-1]: 3.0}
    top = make_loss(kind, name="topk", hardest=1.0, class_weights=weights)
    plain = make_loss(kind, name="ce" if kind == "softmax" else "bce", class_weights=weights)
    for output in (logits, logits[..., ::2]):
        torch.testing.assert_close(top(output, labels), plain(output, labels))
