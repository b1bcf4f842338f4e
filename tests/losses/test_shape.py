"""Boundary loss and recall of centre lines: by hand, and by their published formulas."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from pipeline.errors import UserError
from pipeline.labels import IGNORE
from pipeline.losses.shape import Objects, boundary, centre_line, see_objects, skeleton_recall

CUBIC = (1.0, 1.0, 1.0)


def objects_of(probability, target, valid=None):
    """One channel along x."""
    as_map = [torch.tensor(values).view(1, 1, -1, 1, 1) for values in (probability, target)]
    valid = torch.ones_like(as_map[1], dtype=torch.bool) if valid is None else torch.tensor(valid).view(1, 1, -1, 1, 1)
    return Objects(as_map[0].float(), as_map[1].bool() & valid, valid, torch.ones(1))


def ball(radius_vox, shape_vox=(15, 14, 13), at=(7, 6, 6)):
    """A ball of class 1: uint8 (1, x, y, z)."""
    where = np.indices(shape_vox) - np.array(at)[:, None, None, None]
    return torch.from_numpy(((where**2).sum(0) <= radius_vox**2).astype(np.uint8))[None]


def tube(shape_vox=(20, 15, 13), radius_vox=3.5):
    """A tube of class 1 along x through the whole patch, its axis at y = 7, z = 6."""
    _, y, z = np.indices(shape_vox)
    return torch.from_numpy((y - 7) ** 2 + (z - 6) ** 2 <= radius_vox**2)[None]


def test_boundary_by_hand():
    # 2 mm voxels, foreground in the middle: 1 mm from each face, the outer ones 3 mm
    objects = objects_of([0.5, 0.25, 0.75, 0.0], [0, 0, 1, 0])
    value = boundary(objects, spacing_mm=(2.0, 2.0, 2.0), warm_up=False)
    assert value.item() == pytest.approx((3 * 0.5 + 1 * 0.25 + 1 * 0.25 + 0) / 4)


def test_warm_up_counts_a_channel_as_far_as_its_dice_has_come():
    objects = objects_of([0.5, 0.25, 0.75, 0.0], [0, 0, 1, 0])
    without, with_it = (boundary(objects, spacing_mm=CUBIC, warm_up=warm_up) for warm_up in (False, True))
    assert with_it.item() == pytest.approx(without.item() * 2 * 0.75 / (1.5 + 1))


def test_an_ignored_voxel_is_no_boundary_and_costs_nothing():
    objects = objects_of([0.9, 0.5, 0.8, 0.7], [0, 0, 0, 1], [True, True, False, True])
    # the foreground's other side is two voxels away, as is its own from there
    value = boundary(objects, spacing_mm=CUBIC, warm_up=False)
    assert value.item() == pytest.approx((2.5 * 0.9 + 1.5 * 0.5 + 1.5 * 0.3) / 3)


def test_boundary_is_the_published_one_up_to_its_constant(make_loss, heads):
    """phi of Kervadec et al., with half a voxel to the face on both sides: mean of phi p less that of the truth."""
    labels = ball(4)
    logits = 3 * torch.randn(1, 4, *labels.shape[1:], generator=torch.Generator().manual_seed(0))
    spacing_mm, inside = (1.0, 1.0, 2.5), labels[0].numpy() == 1
    outer, inner = (distance_transform_edt(mask, sampling=spacing_mm) for mask in (~inside, inside))
    phi = np.where(inside, 0.5 - inner, outer - 0.5)
    p = logits.softmax(1)[0, 1].numpy()
    objects = see_objects(logits, labels, heads["softmax"], torch.ones(4))
    value = boundary(objects, spacing_mm=spacing_mm, warm_up=False)
    assert value.item() == pytest.approx((phi * p).mean() - (phi * inside).mean(), rel=1e-4)


def test_boundary_of_a_perfect_mask_is_0_and_grows_with_the_distance_of_an_error(make_loss):
    loss = make_loss("sigmoid", boundary=1.0, boundary_warm_up=False)
    labels = ball(3)
    values = []
    for extra_x in (None, 11, 13):
        mask = labels == 1
        if extra_x is not None:
            mask = mask.clone()
            mask[0, extra_x, 6, 6] = True
        logits = torch.full((1, 3, *labels.shape[1:]), -60.0)
        logits[:, 0][mask] = 60
        values.append(loss.parts(logits, labels)["boundary"].item())
    voxels = labels.numel()
    # from the centre at 7 with radius 3 the surface is at 10.5
    assert values == pytest.approx([0, 0.5 / voxels, 2.5 / voxels], rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("value", [0, 1, IGNORE])
def test_absent_and_filling_classes_have_neither_boundary_nor_centre_line(value, make_loss, random_case):
    logits = random_case(4)[0].requires_grad_()
    labels = torch.full((2, 5, 6, 4), value, dtype=torch.uint8)
    parts = make_loss("softmax", boundary=1.0, tubes=["liver"]).parts(logits, labels)
    found = parts["boundary"] + parts["skeleton_recall"]
    found.sum().backward()
    assert found.tolist() == [0, 0]
    assert (logits.grad == 0).all()


def test_the_centre_line_of_a_tube_is_its_axis_up_to_the_border():
    target = tube()
    line = centre_line(target, torch.ones_like(target), CUBIC)
    expected = torch.zeros_like(target)
    expected[:, :, 7, 6] = True
    assert torch.equal(line, expected)


@pytest.mark.parametrize("width", [1, 2])
def test_a_thin_tube_is_its_own_centre_line(width):
    target = torch.zeros(1, 8, 7, 7, dtype=torch.bool)
    target[:, :, 3 : 3 + width, 3 : 3 + width] = True
    assert torch.equal(centre_line(target, torch.ones_like(target), CUBIC), target)


def test_every_object_has_a_part_of_the_centre_line():
    target = (ball(3, at=(4, 4, 4)) | ball(1, at=(11, 10, 9))) == 1
    target[0, 14, 0, 0] = True
    line = centre_line(target, torch.ones_like(target), CUBIC)
    assert line[0, 4, 4, 4]
    assert line[0, 11, 10, 9]
    assert line[0, 14, 0, 0]
    assert (line <= target).all()


def test_skeleton_recall_by_hand():
    """A bar 1 voxel thick of 4 voxels, found with 0.5, 0.5, 1 and 0: recall 2 / 4; false positives do not count."""
    objects = objects_of([1.0, 0.5, 0.5, 1.0, 0.0, 1.0], [0, 1, 1, 1, 1, 0])
    # depths are 1, 2, 2, 1; made two voxels thicker the middle is the whole bar
    assert skeleton_recall(objects, spacing_mm=CUBIC, channels=(0,)).item() == pytest.approx(0.5)


def test_skeleton_recall_asks_for_the_line_and_not_for_the_surface():
    """What lies further than two voxels from the axis may be missed."""
    target = tube(radius_vox=4.5)
    near = tube(radius_vox=2).unsqueeze(1).float()
    valid = torch.ones_like(target).unsqueeze(1)
    objects = Objects(near, target.unsqueeze(1), valid, torch.ones(1))
    assert skeleton_recall(objects, spacing_mm=CUBIC, channels=(0,)).item() == 0
    empty = Objects(torch.zeros_like(near), target.unsqueeze(1), valid, torch.ones(1))
    assert skeleton_recall(empty, spacing_mm=CUBIC, channels=(0,)).item() == 1


def test_shape_terms_are_added_by_their_factors_to_the_prediction_alone(make_loss, random_case):
    logits, labels = random_case(4)
    keys = {"boundary": 0.3, "tubes": ["vessel"], "tube_weight": 2.0}
    outputs = [logits, -logits[..., ::2]]
    loss = make_loss("softmax", **keys)
    parts = loss.parts(outputs, labels)
    assert list(parts) == loss.terms == ["dice", "topk", "boundary", "skeleton_recall"]
    alone = make_loss("softmax", **keys).parts(logits, labels)
    assert torch.equal(parts["boundary"], alone["boundary"])
    expected = make_loss("softmax")(outputs, labels) + 0.3 * parts["boundary"] + 2 * parts["skeleton_recall"]
    torch.testing.assert_close(loss(outputs, labels), expected)


def test_a_tube_without_a_channel_is_refused(make_loss):
    with pytest.raises(
        UserError, match=r"loss.tubes: cord has no channel under a softmax head; expected some of liver"
    ):
        make_loss("softmax", tubes=["cord"])
