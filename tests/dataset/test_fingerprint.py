"""The fingerprint of a case: counted by hand on small volumes, by SciPy on random ones, and as JSON."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.dataset.cases import Case
from pipeline.dataset.fingerprint import CaseFingerprint, Components, components_of, fingerprint
from pipeline.formats.dispatch import read_image
from pipeline.volume.grid import Grid
from pipeline.volume.intensity import BIN_HU, BINS, BINS_FROM_HU
from pipeline.volume.volume import Volume

CASE = Case("a", Path("images/a.nii.gz"), Path("labels/a.nii.gz"), "a", "train")
GRID = Grid((8, 6, 5), np.diag([1.0, 2.0, 3.0, 1.0]))


def of(image: np.ndarray, encoded: np.ndarray) -> CaseFingerprint:
    return fingerprint(CASE, Volume(image, GRID), Volume(encoded, GRID))


@pytest.fixture
def image() -> np.ndarray:
    """Air all around a block of 2 x 2 x 1 voxels of 50 HU."""
    made = np.full(GRID.shape_vox, -1000, np.int16)
    made[3:5, 2:4, 2] = 50
    return made


def test_a_case_is_described_by_hand_counts(image: np.ndarray) -> None:
    encoded = np.zeros(GRID.shape_vox, np.uint8)
    encoded[3:5, 2:4, 2] = 2  # one object of 4 voxels
    encoded[0, 0, 0] = 2  # and one of a single voxel
    encoded[7, 5, 4] = 255
    found = of(image, encoded)
    assert found.name == "a"
    assert found.shape_vox == (8, 6, 5)
    assert found.spacing_mm == pytest.approx((1, 2, 3))
    assert found.counts == {0: 240 - 6, 2: 5, 255: 1}
    assert found.components == {2: Components(largest_vox=4, smallest_vox=1, number=2)}
    assert found.histogram.shape == (BINS,)
    assert found.histogram[(50 - BINS_FROM_HU) // BIN_HU] == 4
    assert found.histogram[(-1000 - BINS_FROM_HU) // BIN_HU] == 236
    assert found.foreground_histogram[(50 - BINS_FROM_HU) // BIN_HU] == 4
    assert found.foreground_histogram.sum() == 5  # the ignored voxel is no foreground
    assert found.body_shape_vox == (8, 6, 5)  # a margin of 4 voxels reaches every side


def test_a_case_without_any_labelled_voxel_has_no_component(image: np.ndarray) -> None:
    found = of(image, np.zeros(GRID.shape_vox, np.uint8))
    assert found.counts == {0: 240}
    assert found.components == {}
    assert found.foreground_histogram.sum() == 0


def test_objects_that_touch_by_a_corner_are_one_and_those_of_another_class_are_apart() -> None:
    encoded = np.zeros((4, 4, 4), np.uint8)
    encoded[0, 0, 0] = encoded[1, 1, 1] = 1
    encoded[2, 2, 2] = 3
    assert components_of(encoded) == {1: Components(2, 2, 1), 3: Components(1, 1, 1)}


def test_ignored_voxels_are_no_object() -> None:
    assert components_of(np.full((3, 3, 3), 255, np.uint8)) == {}


@given(st.integers(0, 2**32 - 1))
def test_objects_are_those_that_scipy_finds_class_by_class(seed: int) -> None:
    encoded = np.random.default_rng(seed).choice(np.array([0, 0, 0, 1, 2, 255], np.uint8), (6, 5, 4))
    for label, found in components_of(encoded).items():
        objects, number = ndimage.label(encoded == label, np.ones((3, 3, 3)))
        sizes = np.bincount(objects.ravel())[1:]
        assert found == (sizes.max(), sizes.min(), number)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL"])
def test_the_orientation_is_that_of_the_file(tmp_path: Path, axes: str) -> None:
    scan = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    turned = scan.as_reoriented(nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
    ))  # fmt: skip
    nib.save(turned, tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    found = fingerprint(CASE, image, Volume(np.zeros((3, 4, 5), np.uint8), image.grid))
    assert found.orientation == axes == "".join(nib.aff2axcodes(turned.affine))


def test_a_fingerprint_survives_json(image: np.ndarray) -> None:
    encoded = np.zeros(GRID.shape_vox, np.uint8)
    encoded[1:3, 1, 1] = 7
    found = of(image, encoded)
    back = CaseFingerprint.from_json(json.loads(json.dumps(found.to_json())))
    assert back.to_json() == found.to_json()
    assert back.components == found.components
    assert back.counts == found.counts
    np.testing.assert_array_equal(back.histogram, found.histogram)
