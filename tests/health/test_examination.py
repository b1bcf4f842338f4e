"""What one reading of a case finds, on volumes small enough to count by hand."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.dataset.cases import Case
from pipeline.dataset.checks import load_pair
from pipeline.errors import UserError
from pipeline.health.examination import (
    Extremes,
    air_shares,
    centres_x_mm,
    examine,
    extremes_of,
    hash_of,
    turned_degrees,
    volumes_on_training_grid,
)
from pipeline.labels import Labels
from pipeline.log import overhear
from pipeline.volume.grid import Grid
from pipeline.volume.volume import Volume

LABELS = Labels({"liver": (1,), "lung": (2, 3)}, ignore=9)
SHAPE = (16, 12, 10)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
TISSUE = np.random.default_rng(0).integers(-90, 90, SHAPE).astype(np.int16)


def labelled(*blocks: tuple[int, slice]) -> np.ndarray:
    """Return an encoded label map with a class in a cube of these indices along all axes."""
    encoded = np.zeros(SHAPE, np.uint8)
    for label, extent in blocks:
        encoded[extent, extent, extent] = label
    return encoded


@pytest.fixture
def make_case(tmp_path: Path) -> Callable[..., Case]:
    """Return a function that writes a CT and, where it is given, a label map, and gives their case."""

    def make(image: np.ndarray = TISSUE, label: np.ndarray | None = None, split: str = "train") -> Case:
        nib.save(nib.Nifti1Image(image, GRID.affine_mm), tmp_path / "ct.nii.gz")
        if label is not None:
            nib.save(nib.Nifti1Image(label, GRID.affine_mm), tmp_path / "label.nii.gz")
        return Case("a", tmp_path / "ct.nii.gz", None if label is None else tmp_path / "label.nii.gz", "a", split)

    return make


def test_a_case_is_examined_in_the_classes_that_its_values_mean(make_case) -> None:
    values = np.zeros(SHAPE, np.uint8)
    values[0:4, 0:4, 0:4], values[6:10, 6:10, 6:10], values[15] = 1, 3, 9
    found = examine(make_case(label=values), labels=LABELS, overlap=(), spacing_mm=(2, 2, 2))
    assert found.labelled
    assert {index: found.fingerprint.counts[index] for index in (1, 2, 255)} == {1: 64, 2: 64, 255: 120}
    assert found.fingerprint.orientation == "RAS"
    assert found.volumes_mm3 == {1: (512, 512), 2: (512, 512)}
    assert found.centre_x_mm == {1: 3, 2: 15}
    assert found.air_shares == {1: 0, 2: 0}
    assert (found.turned_degrees, found.cut_off_vox) == (0, 0)
    assert found.extremes.lowest_hu == TISSUE.min()


def test_a_test_case_without_a_label_is_looked_at_and_a_training_case_is_refused(make_case) -> None:
    found = examine(make_case(split="test"), labels=LABELS, overlap=(), spacing_mm=(2, 2, 2))
    assert not found.labelled
    assert (found.volumes_mm3, found.centre_x_mm, found.air_shares, found.cut_off_vox) == ({}, {}, {}, 0)
    with pytest.raises(UserError, match="has no label map"):
        examine(make_case(), labels=LABELS, overlap=(), spacing_mm=(2, 2, 2))


def test_what_load_pair_refuses_is_refused(make_case) -> None:
    with pytest.raises(UserError, match=r"label values 7 \(64 voxels\) belong to no class"):
        examine(make_case(label=labelled((7, slice(0, 4)))), labels=LABELS, overlap=(), spacing_mm=(2, 2, 2))
    scaled = (TISSUE / 100).astype(np.float32)
    with pytest.raises(UserError, match="scaled already"):
        examine(make_case(scaled, split="test"), labels=LABELS, overlap=(), spacing_mm=(2, 2, 2))


def test_what_reading_warns_of_is_left_to_the_judgement(make_case) -> None:
    case = make_case(label=labelled())
    with overhear() as shown:
        load_pair(case, LABELS)
        ((_, sentence),) = shown.take()
        assert "the label is empty" in sentence
        examine(case, labels=LABELS, overlap=(), spacing_mm=(2, 2, 2))
        assert shown.take() == []


def test_volumes_are_those_of_the_cases_grid_and_of_the_training_grid() -> None:
    # 4 x 4 x 4 voxels of 2 mm at the corner of the volume are 2 x 2 x 2 voxels of 4 mm.
    encoded = labelled((1, slice(0, 4)))
    volumes, cut_off_vox = volumes_on_training_grid(Volume(TISSUE, GRID), encoded, (4, 4, 4))
    assert (volumes, cut_off_vox) == ({1: (512, 512)}, 0)


def test_what_lies_in_the_air_around_the_body_is_cut_off_as_prepare_does_it() -> None:
    image = np.full((40, 12, 10), -1000, np.int16)
    image[:10] = 0  # the body; its box goes 4 voxels further, to 14
    encoded = np.zeros(image.shape, np.uint8)
    encoded[5:10, 0, 0], encoded[12:16, 0, 0] = 1, 2
    volumes, cut_off_vox = volumes_on_training_grid(Volume(image, Grid(image.shape, np.eye(4))), encoded, (1, 1, 1))
    assert volumes == {1: (5, 5), 2: (4, 2)}
    assert cut_off_vox == 2


def test_ignored_voxels_have_no_volume_and_no_centre() -> None:
    encoded = labelled((255, slice(0, 4)))
    assert volumes_on_training_grid(Volume(TISSUE, GRID), encoded, (4, 4, 4)) == ({}, 0)
    assert centres_x_mm(encoded, GRID) == {}


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_the_share_in_air_is_of_a_classs_own_voxels_below_minus_500(dtype: type) -> None:
    # Class 1: one of four below -500. Class 2: both. Class 3: none. What is ignored, or background, has no share.
    voxels = np.array([[[-501, -500, 0, 40], [-1024, -1024, 40, -1024], [-1024, 0, 0, 0]]], dtype)
    encoded = np.array([[[1, 1, 1, 1], [2, 2, 3, 255], [0, 0, 0, 0]]], np.uint8)
    assert air_shares(voxels, encoded) == {1: 0.25, 2: 1, 3: 0}


def test_extremes_are_counted() -> None:
    assert extremes_of(np.array([[[-5, 3, -5], [7, 7, 7]]], np.int16)) == Extremes(-5, 2, 7, 3)
    assert extremes_of(np.full((2, 2, 2), 4, np.int16)) == Extremes(4, 8, 4, 8)


def test_a_hash_tells_values_shape_and_type_apart() -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    changed = array.copy()
    changed[1, 2, 3] += 1
    others = [changed, array.reshape(3, 2, 4), array.astype(np.float32)]
    assert hash_of(array) == hash_of(array.copy())
    assert len({hash_of(each) for each in (array, *others)}) == 4


def test_the_angle_of_a_grid_is_that_of_its_most_turned_axis() -> None:
    c, s = np.cos(np.radians(25)), np.sin(np.radians(25))
    affine = np.array([[c, -s, 0, 5], [s, c, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]]) @ np.diag([2.0, 3.0, 4.0, 1.0])
    assert turned_degrees(Grid(SHAPE, affine)) == pytest.approx(25)
    assert turned_degrees(GRID) == 0


def test_centres_are_in_millimetres_to_the_patients_right() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 3] = -10
    assert centres_x_mm(labelled((1, slice(0, 4)), (3, slice(6, 7))), Grid(SHAPE, affine)) == {1: -7, 3: 2}


def test_a_file_written_in_another_axis_order_has_the_same_centres_and_hash(tmp_path: Path) -> None:
    encoded = labelled((1, slice(0, 4)))
    found = []
    for axes in ("RAS", "LPS", "SLA"):
        for name, voxels in (("ct", TISSUE), ("label", encoded)):
            image = nib.Nifti1Image(voxels, GRID.affine_mm)
            change = nib.orientations.ornt_transform(
                nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
            )
            nib.save(image.as_reoriented(change), tmp_path / f"{axes}_{name}.nii.gz")
        case = Case(axes, tmp_path / f"{axes}_ct.nii.gz", tmp_path / f"{axes}_label.nii.gz", axes, "train")
        found.append(examine(case, labels=LABELS, overlap=(), spacing_mm=(2, 2, 2)))
    assert [each.fingerprint.orientation for each in found] == ["RAS", "LPS", "SLA"]
    assert len({each.image_hash for each in found}) == 1
    assert [each.centre_x_mm for each in found] == [{1: 3}] * 3
