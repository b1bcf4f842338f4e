from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.dataset.cases import Case
from pipeline.dataset.checks import count_foreground, count_indices, load_label, load_pair
from pipeline.errors import UserError
from pipeline.labels import Labels

LABELS = Labels({"liver": (1,), "lung": (2, 3)}, ignore=9)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (8, 7, 6)
HU = np.where(np.arange(8 * 7 * 6).reshape(SHAPE) % 3 == 0, -1000, 40).astype(np.int16)


@pytest.fixture
def make_case(tmp_path: Path) -> Callable[..., Case]:
    """Return a function that writes a CT and a label map, and gives their case."""

    def make(image: np.ndarray = HU, label: np.ndarray | None = None, label_affine: np.ndarray = AFFINE) -> Case:
        files = {}
        voxels = np.zeros(SHAPE, np.uint8) if label is None else label
        for role, array, affine in (("images", image, AFFINE), ("labels", voxels, label_affine)):
            files[role] = tmp_path / role / "case 1.nii.gz"
            files[role].parent.mkdir()
            nib.save(nib.Nifti1Image(array, affine), files[role])
        return Case("case 1", files["images"], files["labels"], "case 1", "train")

    return make


def test_voxels_are_counted_by_class_index() -> None:
    encoded = np.array([[[0, 0, 3]], [[255, 3, 1]]], np.uint8)
    assert count_indices(encoded) == {0: 2, 1: 1, 3: 2, 255: 1}
    assert count_foreground(encoded) == 3


def shifted(x_mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] = x_mm
    return affine


def test_a_pair_is_hounsfield_units_and_class_indices_on_one_grid(make_case) -> None:
    values = np.zeros(SHAPE, np.uint8)
    values[1, 2, 3], values[1, 2, 4], values[1, 2, 5] = 3, 9, 1
    image, label = load_pair(make_case(label=values), LABELS)
    np.testing.assert_array_equal(image.voxels, HU)
    assert label.voxels.dtype == np.uint8
    assert (label.voxels[1, 2, 3], label.voxels[1, 2, 4], label.voxels[1, 2, 5]) == (2, 255, 1)
    assert np.count_nonzero(label.voxels) == 3
    np.testing.assert_array_equal(label.grid.affine_mm, image.grid.affine_mm)


@pytest.mark.parametrize(("x_mm", "fine"), [(0.19, True), (0.21, False), (-0.21, False)])
def test_corners_may_lie_a_tenth_of_a_voxel_apart(make_case, x_mm: float, fine: bool) -> None:
    case = make_case(label_affine=shifted(x_mm))
    if fine:
        load_pair(case, LABELS)
        return
    with pytest.raises(
        UserError, match=r"labels/case 1.nii.gz lies on another grid than .*images/case 1.nii.gz"
    ) as told:
        load_pair(case, LABELS)
    assert "8 x 7 x 6 voxels of 2 x 2 x 3 mm from (0, 0, 0)" in str(told.value)
    assert f"8 x 7 x 6 voxels of 2 x 2 x 3 mm from ({x_mm:g}, 0, 0)" in str(told.value)
    assert "up to 0.21 mm apart" in str(told.value)


def test_a_label_of_another_shape_is_refused_with_both_shown(make_case) -> None:
    with pytest.raises(UserError, match=r"8 x 7 x 5 voxels .* against 8 x 7 x 6 voxels"):
        load_pair(make_case(label=np.zeros((8, 7, 5), np.uint8)), LABELS)


@pytest.mark.parametrize("value", [7, 255])
def test_a_value_of_no_class_is_refused_with_case_file_and_count(make_case, value: int) -> None:
    values = np.zeros(SHAPE, np.uint8)
    values[0, 0, :4] = value
    with pytest.raises(UserError, match=rf"labels/case 1.nii.gz \(case case 1\): label values {value} \(4 voxels\)"):
        load_pair(make_case(label=values), LABELS)


def test_a_label_rescaled_to_a_fraction_is_refused(make_case) -> None:
    values = np.zeros(SHAPE, np.float32)
    values[0, 0, 0] = 1 / 255
    with pytest.raises(UserError, match=r"labels/case 1.nii.gz: label value 0\.00392.*rescaled to 0\.\.1"):
        load_pair(make_case(label=values), LABELS)


def test_an_empty_label_is_allowed_with_a_warning(make_case, caplog) -> None:
    _, label = load_pair(make_case(), LABELS)
    assert not label.voxels.any()
    assert "empty, no voxel belongs to any class" in caplog.text
    assert "case 1" in caplog.text


@pytest.mark.parametrize(
    "image",
    [
        np.clip((HU + 200) / 600, 0, 1).astype(np.float32),
        (np.clip(HU, -200, 400) / 400).astype(np.float32),
        ((HU - HU.mean()) / HU.std()).astype(np.float32),
        np.zeros(SHAPE, np.int16),
        np.full(SHAPE, -1024, np.int16),
        (HU * 1e6).astype(np.float32),
    ],
    ids=["0..1", "-0.5..1", "z-scored", "zero", "constant", "times a million"],
)
def test_an_image_that_is_no_ct_in_hounsfield_units_is_refused(make_case, image: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"images/case 1.nii.gz: values from .* to .*expected HU"):
        load_pair(make_case(image), LABELS)


@pytest.mark.parametrize(("voxels", "value"), [(1, 40_000), (3, 26_000)])
def test_metal_is_accepted(make_case, voxels: int, value: int) -> None:
    image = HU.astype(np.float32)
    image[0, 0, 1 : 1 + voxels] = value
    load_pair(make_case(image), LABELS)


@pytest.mark.parametrize("lowest_hu", [-150, -50])
def test_a_ct_of_soft_tissue_with_little_or_no_air_is_accepted(make_case, lowest_hu: int) -> None:
    image = np.random.default_rng(0).normal(40, 15, SHAPE).round().astype(np.int16)
    image[0, 0, 0] = lowest_hu
    load_pair(make_case(image), LABELS)


def test_an_image_without_a_negative_value_is_told(make_case, caplog) -> None:
    load_pair(make_case((HU + 1000).astype(np.int16)), LABELS)
    assert "values from 0 to 1040, none negative; expected HU" in caplog.text


def test_a_ct_of_water_and_air_is_told_nothing(make_case, caplog) -> None:
    values = np.zeros(SHAPE, np.uint8)
    values[0, 0, 0] = 1
    water = np.where(HU > 0, 0, -1000).astype(np.int16)  # two thirds of its voxels are exactly 0
    load_pair(make_case(water, values), LABELS)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("images/a.nii.gz", "labels/a.nii.gz"),
        ("imagesTr/a_0000.mha", "labelsTr/a.mha"),
        ("a/ct.nii.gz", "a/segmentations"),
    ],
)
def test_a_case_without_a_label_is_refused_with_what_is_missing_and_the_cure(tmp_path, image, expected: str) -> None:
    case = Case("a", tmp_path / image, None, "a", "train")
    with pytest.raises(
        UserError, match=rf"has no label map; expected {tmp_path}/{expected}\. Add it, or make the case"
    ):
        load_label(case, LABELS)


@pytest.fixture
def make_masked(make_case) -> Callable[..., Case]:
    """Return a function that writes a CT and a mask file for each structure, and gives their case."""

    def make(affine: np.ndarray = AFFINE, **masks: np.ndarray) -> Case:
        case = make_case()
        files = {name: case.image.parent / "segmentations" / f"{name}.nii.gz" for name in masks}
        for name, path in files.items():
            path.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(masks[name], affine), path)
        return replace(case, label=files)

    return make


def mask_of(*planes: int, value: int = 1) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[list(planes)] = value
    return mask


def test_masks_are_merged_into_class_indices_and_others_are_not_read(make_masked) -> None:
    case = make_masked(liver=mask_of(1, value=255), lung=mask_of(2, 3))
    case.label["spleen"] = case.image.parent / "nowhere.nii.gz"
    image, label = load_pair(case, LABELS)
    np.testing.assert_array_equal(image.voxels, HU)
    assert label.voxels.dtype == np.uint8
    assert label.voxels[:, 0, 0].tolist() == [0, 1, 2, 2, 0, 0, 0, 0]
    np.testing.assert_array_equal(label.grid.affine_mm, image.grid.affine_mm)
    np.testing.assert_array_equal(load_label(case, LABELS).voxels, label.voxels)


def test_masks_of_a_pattern_are_one_class(make_masked) -> None:
    case = make_masked(lung_left=mask_of(1), lung_right=mask_of(2), liver=mask_of(5))
    _, label = load_pair(case, Labels({"lung_*": (7,), "liver": (3,)}))
    assert label.voxels[:, 0, 0].tolist() == [0, 1, 1, 0, 0, 2, 0, 0]


def test_a_case_without_a_mask_is_empty(make_masked, caplog) -> None:
    _, label = load_pair(make_masked(), LABELS)
    assert label.voxels.shape == SHAPE
    assert not label.voxels.any()
    assert "no voxel belongs to any class" in caplog.text


def test_overlapping_masks_are_refused_with_pair_case_and_voxels(make_masked) -> None:
    case = make_masked(liver=mask_of(1, 2), lung=mask_of(2, 3))
    with pytest.raises(
        UserError, match=r"lung\.nii\.gz \(case case 1\): the mask of lung overlaps that of liver \(42 voxels\)"
    ):
        load_pair(case, LABELS)


@pytest.mark.parametrize(("overlap", "shared"), [(("liver", "lung"), 1), (("lung", "liver"), 2)])
def test_an_order_says_who_has_what_masks_share(make_masked, overlap, shared: int) -> None:
    case = make_masked(liver=mask_of(1, 2), lung=mask_of(2, 3))
    _, label = load_pair(case, LABELS, overlap)
    assert label.voxels[:, 0, 0].tolist() == [0, 1, shared, 2, 0, 0, 0, 0]


def test_a_mask_on_another_grid_is_refused(make_masked) -> None:
    with pytest.raises(UserError, match=r"segmentations/liver\.nii\.gz lies on another grid than .*case 1\.nii\.gz"):
        load_pair(make_masked(shifted(3), liver=mask_of(1)), LABELS)


def test_a_label_map_in_place_of_a_mask_is_refused(make_masked) -> None:
    case = make_masked(liver=mask_of(1) + 2 * mask_of(4))
    with pytest.raises(UserError, match=r"liver\.nii\.gz \(case case 1\): values 0, 1, 2; expected the mask of one"):
        load_pair(case, LABELS)
