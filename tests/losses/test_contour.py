"""The structure loss: what voxels count, and the loss by its published formula."""

import pytest
import torch
from torch.nn import functional

from pipeline.losses.contour import box_sum, weigh_contours


def test_the_sum_over_a_box_is_that_of_average_pooling():
    values = torch.rand(1, 2, 17, 15, 19, generator=torch.Generator().manual_seed(0))
    for width in (3, 5, 15):
        pooled = functional.avg_pool3d(values, width, 1, width // 2, divisor_override=1)
        torch.testing.assert_close(box_sum(values, width), pooled, rtol=1e-5, atol=0.0)


def test_borders_of_the_patch_are_no_contours():
    """Zeros around it, as published, would give the corner of an all-ones patch 1 + 5 (1 - (3/5)^3) = 4.9."""
    valid = torch.ones(1, 1, 6, 6, 6, dtype=torch.bool)
    weights = weigh_contours(torch.ones(1, 2, 6, 6, 6), valid, exclusive=False, box_vox=5)
    assert torch.equal(weights, torch.ones(1, 2, 6, 6, 6))


def test_weights_by_hand_beside_an_ignored_voxel():
    target = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 4, 1, 1)
    valid = torch.tensor([True, True, True, False]).view(1, 1, 4, 1, 1)
    weights = weigh_contours(target, valid, exclusive=False, box_vox=3).flatten()
    # boxes of 3 along the line: means 1/2, 1/3, 0/2
    assert weights[:3].tolist() == pytest.approx([1 + 5 * 0.5, 1 + 5 / 3, 1.0])


def test_under_softmax_the_largest_weight_of_any_class_counts():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (1, 5, 4, 6), generator=generator)
    shares = functional.one_hot(labels).movedim(-1, 1).float()
    valid = torch.ones(1, 1, 5, 4, 6, dtype=torch.bool)
    by_channel = weigh_contours(shares, valid, exclusive=False, box_vox=3)
    together = weigh_contours(shares, valid, exclusive=True, box_vox=3)
    assert torch.equal(together, by_channel.amax(1, keepdim=True))


def test_structure_loss_equals_its_published_formula_inside(make_loss, random_case):
    """Weighted binary cross-entropy plus 1 - (I + 1) / (U - I + 1) by channel, with the border excluded."""
    logits, labels = random_case(3)
    target = functional.one_hot(labels.long(), 4).movedim(-1, 1).float()[:, 1:]
    pooled = functional.avg_pool3d(target, 3, 1, 1, count_include_pad=False)
    weight, p = 1 + 5 * (pooled - target).abs(), logits.sigmoid()
    bce = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weighted_bce = (weight * bce).flatten(1).sum(1) / weight.flatten(1).sum(1)
    both, union = (weight * p * target).flatten(2).sum(2), (weight * (p + target)).flatten(2).sum(2)
    iou = 1 - (both + 1) / (union - both + 1)
    loss = make_loss("sigmoid", name="structure", smooth=1.0, box_vox=3)
    torch.testing.assert_close(loss(logits, labels), weighted_bce + iou.mean(1))


def test_structure_loss_weighs_cross_entropy_of_softmax(make_loss, random_case):
    logits, labels = random_case(4)
    shares = functional.one_hot(labels.long(), 4).movedim(-1, 1).float()
    valid = torch.ones_like(labels, dtype=torch.bool).unsqueeze(1)
    weight = weigh_contours(shares, valid, exclusive=True, box_vox=5)[:, 0]
    ce = functional.cross_entropy(logits, labels.long(), reduction="none")
    p, target = logits.softmax(1)[:, 1:], shares[:, 1:]
    inside = (weight[:, None] * p * target).flatten(2).sum(2)
    union = (weight[:, None] * (p + target)).flatten(2).sum(2) - inside
    parts = make_loss("softmax", name="structure", smooth=1e-5, box_vox=5).parts(logits, labels)
    torch.testing.assert_close(parts["ce"], (weight * ce).flatten(1).sum(1) / weight.flatten(1).sum(1))
    torch.testing.assert_close(parts["jaccard"], (1 - inside / union).mean(1), atol=1e-5, rtol=1e-4)
