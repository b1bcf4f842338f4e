"""How far our training grid is from an exact one, SciPy's spline and shares in float64; see `bench/prepare.py`."""

import json
from math import ceil

import numpy as np
from scipy import ndimage

from bench.prepare_cases import Data
from pipeline.formats.dispatch import read_image, read_label
from pipeline.volume.grid import Grid
from pipeline.volume.intensity import AIR_HU
from pipeline.volume.resample import resample_image
from pipeline.volume.shares import interpolated_labels

METAL_HU = 26_000
PLANES = 8  # of the result at a time
SAME = 9  # digits of a share that count: float64 itself decides nothing beyond


def accuracy_rows(data: Data) -> list[list[str]]:
    """Return a line for each case: the largest difference in HU, without and with metal, and the least Dice of a class.

    Dice stands there twice: with ties going to the lower class, and as float64's noise makes them fall.
    """
    described = json.loads((data.folder / "dataset.json").read_text())["labels"]
    rows = []
    for path in sorted((data.folder / "images").iterdir()):
        image, label = read_image(path), read_label(data.folder / "labels" / path.name)
        grid, target = image.grid, image.grid.at_spacing(data.spacing_mm)
        apart = [hu_apart(hu, grid, target) for hu in (image.voxels, with_metal(image.voxels))]
        encoded = label.voxels.astype(np.uint8)
        dice = least_dice(interpolated_labels(encoded, grid, target), encoded, grid, target, max(described.values()))
        figures = [f"{value:.4f}" for value in apart] + [f"{value:.5f}" for value in dice]
        rows.append([f"{data.name}: {path.name}", *figures])
    return rows


def with_metal(hu: np.ndarray) -> np.ndarray:
    """Return the CT with blocks, wires and single voxels of 26,000 HU."""
    metal = hu.copy()
    x, y, z = (size // 2 for size in hu.shape)
    metal[x : x + 4, y : y + 3, z : z + 5] = metal[:, y // 2, z] = metal[20::30, 20::30, 20::30] = METAL_HU
    return metal


def positions_of(source: Grid, target: Grid) -> list[np.ndarray]:
    """Return where the target's voxels lie along each axis of the source, at most at its end voxels."""
    matrix = np.linalg.inv(source.affine_mm) @ target.affine_mm
    return [
        np.clip(matrix[axis, axis] * np.arange(target.shape_vox[axis]) + matrix[axis, 3], 0, source.shape_vox[axis] - 1)
        for axis in range(3)
    ]


def hu_apart(hu: np.ndarray, source: Grid, target: Grid) -> float:
    """Return the largest difference between our HU, which are whole, and the exact ones."""
    made = resample_image(hu, source, target, AIR_HU)
    smooth = hu.astype(np.float64)
    for axis, ratio in enumerate(np.array(target.spacing_mm) / source.spacing_mm):
        if ratio > 1.5:
            sigma = (ratio - 1) / 2
            smooth = ndimage.gaussian_filter1d(smooth, sigma, axis, mode="mirror", radius=ceil(4 * sigma))
    coefficients = ndimage.spline_filter(smooth, order=3, mode="mirror")
    x, y, z = positions_of(source, target)
    largest = 0.0
    for first in range(0, len(x), PLANES):
        points = np.stack(np.meshgrid(x[first : first + PLANES], y, z, indexing="ij"))
        exact = ndimage.map_coordinates(coefficients, points, order=3, mode="mirror", prefilter=False)
        apart = np.abs(made[first : first + PLANES] - exact.clip(hu.min(), hu.max()))
        largest = max(largest, float(apart.max()))
    return largest


def least_dice(made: np.ndarray, encoded: np.ndarray, source: Grid, target: Grid, classes: int) -> tuple[float, float]:
    """Return the least Dice of a class between labels and the exact ones: ties to the lower class, and as they fell."""
    x, y, z = positions_of(source, target)
    overlap, size_made, size_exact = np.zeros((2, classes + 1)), np.zeros(classes + 1), np.zeros((2, classes + 1))
    for first in range(0, len(x), PLANES):
        rows = x[first : first + PLANES]
        near = slice(int(rows.min()), int(np.ceil(rows.max())) + 1)
        points = np.stack(np.meshgrid(rows - near.start, y, z, indexing="ij"))
        present = np.unique(encoded[near])
        shares = np.stack([ndimage.map_coordinates((encoded[near] == label).astype(np.float64), points, order=1)
                           for label in present])  # fmt: skip
        ours = made[first : first + PLANES]
        size_made += np.bincount(ours.ravel(), minlength=classes + 1)
        for way, exact in enumerate((present[shares.round(SAME).argmax(axis=0)], present[shares.argmax(axis=0)])):
            size_exact[way] += np.bincount(exact.ravel(), minlength=classes + 1)
            overlap[way] += np.bincount(exact[exact == ours], minlength=classes + 1)
    both = (size_made + size_exact)[:, 1:]
    with np.errstate(invalid="ignore"):
        dice = np.nanmin(2 * overlap[:, 1:] / both, axis=1)
    return float(dice[0]), float(dice[1])
