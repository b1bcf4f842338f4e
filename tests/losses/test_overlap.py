"""Tversky, generalised Dice and Jaccard: by hand, and equal to MONAI's where the definitions meet."""

import pytest
import torch
from monai.losses import DiceLoss, GeneralizedDiceLoss, TverskyLoss


def test_tversky_by_hand(make_loss, line, log_odds):
    # liver: TP = 0.8, FN = 0.2, FP = 0.5 -> w = 0.3 * 0.5 + 0.7 * 0.2 = 0.29; 0.29 / (0.8 + 0.29 + 0.05)
    value = make_loss("sigmoid", name="tversky", beta=0.7, smooth=0.1)(log_odds(0.8, 0.5), line(1, 0))
    assert value.item() == pytest.approx(0.29 / 1.14, rel=1e-5)


def test_tversky_without_any_class_present_is_that_of_the_complement(make_loss, line, log_odds):
    # liver: FP = 0.5 of 2 voxels, TN = 1.5 -> 0.3 * 0.5 / (1.5 + 0.15); the others are found nowhere
    value = make_loss("sigmoid", name="tversky", beta=0.7)(log_odds(0.3, 0.2), line(0, 0))
    assert value.item() == pytest.approx(0.15 / 1.65 / 3, rel=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.7, 1.0])
def test_tversky_equals_monai(beta, make_loss, random_case, one_hot):
    logits, labels = random_case(3)
    labels[labels == 3] = 0
    oracle = TverskyLoss(sigmoid=True, alpha=1 - beta, beta=beta, smooth_nr=0.05, smooth_dr=0.05, reduction="none")
    loss = make_loss("sigmoid", name="tversky", beta=beta, smooth=0.1, dice_over="all")
    expected = oracle(logits, one_hot(labels)[:, 1:]).flatten(1).mean(1)
    torch.testing.assert_close(loss(logits, labels), expected)


@pytest.mark.parametrize("over", ["present", "all"])
def test_tversky_with_equal_weights_is_dice(over, make_loss, random_case):
    logits, labels = random_case(4)
    labels[1] = 0
    tversky = make_loss("softmax", name="tversky", beta=0.5, dice_over=over, smooth=0.1)
    dice = make_loss("softmax", name="dice", dice_over=over, smooth=0.1)
    torch.testing.assert_close(tversky(logits, labels), dice(logits, labels))


def test_focal_tversky_is_its_power_by_channel(make_loss, line, log_odds):
    loss = make_loss("sigmoid", name="focal_tversky", beta=0.7, smooth=0.1)
    assert loss(log_odds(0.8, 0.5), line(1, 0)).item() == pytest.approx((0.29 / 1.14) ** 0.75, rel=1e-5)


def test_generalised_dice_by_hand(make_loss, line, log_odds):
    # liver: T = 1, E = 0.2, P = 0.8; tumour: T = 2, E = 1, P = 1, so that it counts (1 / 2)^2
    logits = log_odds(0.8, 1e-12, 1e-12)
    logits[0, 1, 1:] = 0
    value = make_loss("sigmoid", name="generalised_dice", smooth=0.1)(logits, line(1, 2, 2))
    assert value.item() == pytest.approx((0.2 + 0.25 * 1) / (1.8 + 0.25 * 3 + 0.1), rel=1e-5)


def test_generalised_dice_equals_monai(make_loss, random_case, one_hot):
    logits, labels = random_case(3)
    labels[labels == 3] = 0  # absent: the largest weight of the present ones in both
    oracle = GeneralizedDiceLoss(sigmoid=True, smooth_nr=1e-9, smooth_dr=1e-9)
    loss = make_loss("sigmoid", name="generalised_dice", smooth=1e-9, dice_over="all")
    torch.testing.assert_close(loss(logits, labels).mean(), oracle(logits, one_hot(labels)[:, 1:]))


def test_generalised_dice_weighs_a_class_by_its_size_squared(make_loss, one_hot):
    """A class ten times as large, all missed, adds as much as a tenth of the small one missed: 10 / 10^2."""
    labels = torch.zeros(1, 11, 1, 1, dtype=torch.uint8)
    labels[0, 0], labels[0, 1:] = 1, 2
    right = 60.0 * (2 * one_hot(labels)[:, 1:] - 1)
    right[:, 1, 1:] = -60
    value = make_loss("sigmoid", name="generalised_dice")(right, labels)
    assert value.item() == pytest.approx(0.1 / (2 + 0.1), rel=1e-3)


def test_jaccard_of_the_structure_loss_equals_monai_where_voxels_count_alike(make_loss, random_case, one_hot):
    logits, labels = random_case(3)
    loss = make_loss("sigmoid", name="structure", dice_over="all", smooth=1e-5)
    loss.weigh = None
    oracle = DiceLoss(sigmoid=True, jaccard=True, smooth_nr=0, smooth_dr=1e-5, reduction="none")
    expected = oracle(logits, one_hot(labels)[:, 1:]).flatten(1).mean(1)
    torch.testing.assert_close(loss.parts(logits, labels)["jaccard"], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "regions"])
@pytest.mark.parametrize("name", ["tversky", "focal_tversky", "generalised_dice"])
def test_shares_are_the_best_answer_at_low_resolution(kind, name, make_loss, heads, random_case):
    _, labels = random_case(1)
    best = heads[kind].logits(heads[kind].target(labels, (2, 3, 2))[0])
    loss = make_loss(kind, name=name)
    generator = torch.Generator().manual_seed(3)
    for scale in (0.1, 1.0, 5.0):
        other = best + scale * torch.randn(best.shape, generator=generator)
        assert (loss(best, labels) < loss(other, labels)).all()
