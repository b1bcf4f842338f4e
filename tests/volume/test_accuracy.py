"""How far the training grid may lie from an exact one: real CT against float64 spline and float64 linear shares."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from pipeline.formats.dispatch import read_image, read_label
from pipeline.volume.grid import Float3, Grid
from pipeline.volume.resample import resample_image
from pipeline.volume.shares import interpolated_labels

WITHIN_HU = 1.0
LEAST_DICE = 0.999
METAL_HU = 26_000
SPACINGS_MM = [(3, 3, 3), (4, 4, 4), (7, 6, 5), (5.1, 3.2, 1.3)]  # of CTs of 3.9 x 3.9 x 2.5 mm: smoothed from 5.9, 3.8


def positions_of(source: Grid, target: Grid) -> list[np.ndarray]:
    """Where the target's voxels lie along each axis of the source, at most at its end voxels; by the affines alone."""
    matrix = np.linalg.inv(source.affine_mm) @ target.affine_mm
    return [
        np.clip(matrix[axis, axis] * np.arange(target.shape_vox[axis]) + matrix[axis, 3], 0, source.shape_vox[axis] - 1)
        for axis in range(3)
    ]


def exact_image(hu: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """SciPy's Gaussian where an axis shrinks by more than 1.5, its cubic spline, and the clip, all in float64."""
    smooth = hu.astype(np.float64)
    for axis, ratio in enumerate(np.array(target.spacing_mm) / source.spacing_mm):
        if ratio > 1.5:
            sigma = (ratio - 1) / 2
            smooth = ndimage.gaussian_filter1d(smooth, sigma, axis, mode="mirror", radius=int(np.ceil(4 * sigma)))
    points = np.stack(np.meshgrid(*positions_of(source, target), indexing="ij"))
    return ndimage.map_coordinates(smooth, points, order=3, mode="mirror").clip(hu.min(), hu.max())


def exact_labels(encoded: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """The class with the largest share by SciPy's linear interpolation of each, in float64; ties to the lower class.

    Shares are rounded to 1e-9: voxels that lie exactly between two classes are otherwise decided by float64's noise.
    """
    points = np.stack(np.meshgrid(*positions_of(source, target), indexing="ij"))
    labels, largest = np.zeros(target.shape_vox, np.uint8), np.full(target.shape_vox, -1.0)
    for label in np.unique(encoded):
        share = ndimage.map_coordinates((encoded == label).astype(np.float64), points, order=1).round(9)
        labels[share > largest] = label
        largest = np.maximum(share, largest)
    return labels


def with_metal(hu: np.ndarray) -> np.ndarray:
    """The CT with an implant: blocks, a wire and single voxels of 26,000 HU."""
    metal = hu.copy()
    metal[60:64, 60:63, 50:55] = metal[30:90, 70, 70] = metal[20::30, 20::30, 20::30] = METAL_HU
    return metal


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
def test_a_real_ct_lies_within_one_hu_of_float64_everywhere(real_image: Path, spacing_mm: Float3) -> None:
    image = read_image(real_image)
    target = image.grid.at_spacing(spacing_mm)
    for hu in (image.voxels, with_metal(image.voxels)):
        made = resample_image(hu, image.grid, target, outside=-1024)
        assert np.abs(made - exact_image(hu, image.grid, target)).max() < WITHIN_HU


def test_the_extremes_of_int16_lie_within_one_hu_of_float64() -> None:
    hu = np.random.default_rng(0).choice(np.int16([-32768, 32767]), (40, 40, 40))
    source = Grid(hu.shape, np.diag([1.0, 1.0, 1.0, 1.0]))
    for spacing_mm in ((0.7, 0.7, 0.7), (1.9, 1.3, 3.1)):
        target = source.at_spacing(spacing_mm)
        made = resample_image(hu, source, target, outside=-1024)
        assert np.abs(made - exact_image(hu, source, target)).max() < WITHIN_HU


def assert_dice_of_exact_labels(encoded: np.ndarray, source: Grid, target: Grid) -> None:
    made, exact = interpolated_labels(encoded, source, target), exact_labels(encoded, source, target)
    assert np.unique(exact).tolist() == [0, 1, 2, 3, 4, 5]
    for index in range(1, 6):
        a, b = made == index, exact == index
        assert 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)) >= LEAST_DICE


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
def test_every_class_of_a_real_label_has_the_dice_of_float64_shares(real_label: Path, spacing_mm: Float3) -> None:
    label = read_label(real_label)
    assert_dice_of_exact_labels(label.voxels.astype(np.uint8), label.grid, label.grid.at_spacing(spacing_mm))


def test_shares_that_a_spacing_in_float32_keeps_from_being_equal_are_told_apart(real_label: Path) -> None:
    """0.8 mm is 0.800000012 in a header: shares that would be equal differ by about 1e-6."""
    encoded = read_label(real_label).voxels.astype(np.uint8)
    source = Grid(encoded.shape, np.diag([*np.float32([0.8, 0.8, 5.0]), 1]))
    assert_dice_of_exact_labels(encoded, source, source.at_spacing((1.5, 1.5, 3.0)))
