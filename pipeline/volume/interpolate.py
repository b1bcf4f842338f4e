"""Interpolation along one axis as a banded matrix, and its product with an array.

An interpolation that is separable is one matrix an axis, (target size, source size), with few entries in a row. BLAS
multiplies blocks of it with the slices that they touch, which needs neither a gather nor a float copy of the source.
"""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_banded

from pipeline.volume.grid import Grid

ROWS = 32  # rows of a matrix that are multiplied at a time: few enough to be banded, enough for BLAS
NEGLIGIBLE = 1e-7  # weights below this are dropped: the tails of the spline's prefilter, under float32's own precision
GAUSSIAN_RADIUS = 4  # in sigmas, where a Gaussian is cut off
HALF_VOXEL = 0.5 + 1e-3  # how far outside the centres of the end voxels a position still belongs to the volume


def axis_positions(source: Grid, target: Grid, axis: int) -> np.ndarray:
    """Return where the voxels of `target` lie along one axis, (n,) in voxels of `source`; UserError by `Grid`."""
    scale, offset = target.mapping_to(source)
    return scale[axis] * np.arange(target.shape_vox[axis]) + offset[axis]


def is_inside(positions: np.ndarray, count: int) -> np.ndarray:
    """True where a position lies in one of `count` voxels, which reach half a voxel beyond their centres."""
    return (positions >= -HALF_VOXEL) & (positions <= count - 1 + HALF_VOXEL)


def linear_matrix(positions: np.ndarray, count: int) -> np.ndarray:
    """Return the float32 matrix (positions, count) of linear interpolation at positions in source voxels, clamped."""
    clamped = np.clip(positions, 0, count - 1)
    lower = np.floor(clamped).astype(np.int64)
    upper_share = clamped - lower
    rows = np.arange(len(positions))
    matrix = np.zeros((len(positions), count))
    matrix[rows, lower] = 1 - upper_share
    matrix[rows, np.minimum(lower + 1, count - 1)] += upper_share
    return matrix.astype(np.float32)


def cubic_matrix(positions: np.ndarray, count: int, sigma_vox: float = 0.0) -> np.ndarray:
    """Return the float32 matrix (positions, count) of cubic B-spline interpolation at positions in source voxels.

    The spline passes through the source's values, which are mirrored about the end voxels: SciPy's
    map_coordinates(order=3, mode="mirror"). Positions outside are clamped to the end voxels.
    sigma_vox: deviation in source voxels of a Gaussian that smooths the source first; 0 leaves it as it is.
    Method: Unser, Aldroubi and Eden, B-spline signal processing, IEEE Transactions on Signal Processing 41 (1993).
    """
    # The values are the basis times the spline's coefficients; the basis at the voxels themselves is tridiagonal.
    basis = spline_basis(np.arange(count), count).T
    diagonals = np.zeros((3, count))
    diagonals[0, 1:], diagonals[1], diagonals[2, :-1] = np.diag(basis, 1), np.diag(basis), np.diag(basis, -1)
    matrix = solve_banded((1, 1), diagonals, spline_basis(np.clip(positions, 0, count - 1), count).T).T
    if sigma_vox > 0:
        matrix = matrix @ gaussian_matrix(count, sigma_vox)
    matrix[np.abs(matrix) < NEGLIGIBLE] = 0
    return matrix.astype(np.float32)


def overlap_matrix(positions: np.ndarray, count: int, width_vox: float) -> np.ndarray:
    """Return (positions, count): the share of a voxel that is `width_vox` source voxels wide in each source voxel."""
    centres = np.arange(count)
    upper = np.minimum(positions[:, None] + width_vox / 2, centres + 0.5)
    lower = np.maximum(positions[:, None] - width_vox / 2, centres - 0.5)
    return (np.maximum(upper - lower, 0) / width_vox).astype(np.float32)


def spline_basis(positions: np.ndarray, count: int) -> np.ndarray:
    """Return (positions, count) weights of the cubic B-splines that are centred on each of `count` mirrored voxels."""
    taps = np.floor(positions).astype(np.int64)[:, None] + np.arange(-1, 3)
    distance = np.abs(np.asarray(positions)[:, None] - taps)
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6
    return scattered(taps, np.where(distance < 1, near, far), count)


def gaussian_matrix(count: int, sigma_vox: float) -> np.ndarray:
    """Return the (count, count) matrix of a Gaussian filter over mirrored voxels."""
    radius = ceil(GAUSSIAN_RADIUS * sigma_vox)
    reach = np.arange(-radius, radius + 1)
    weights = np.exp(-((reach / sigma_vox) ** 2) / 2)
    taps = np.arange(count)[:, None] + reach
    return scattered(taps, np.broadcast_to(weights / weights.sum(), taps.shape), count)


def scattered(taps: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Return the (rows, count) matrix with weights[row, k] at voxel taps[row, k], mirrored about the end voxels."""
    period = max(1, 2 * (count - 1))
    columns = np.abs(taps) % period
    columns = np.minimum(columns, period - columns) if count > 1 else np.zeros_like(taps)
    matrix = np.zeros((len(taps), count))
    np.add.at(matrix, (np.arange(len(taps))[:, None], columns), weights)
    return matrix


class Band(NamedTuple):
    """Neighbouring rows of a matrix, the columns where they are not zero, and what they hold there."""

    rows: slice
    columns: slice
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Banded:
    """A matrix (`rows`, n) with few entries in a row, as blocks; rows that are in no block are zero."""

    rows: int
    bands: tuple[Band, ...]

    @classmethod
    def of(cls, matrix: np.ndarray) -> "Banded":
        """Cut a float32 matrix into blocks of rows."""
        bands = []
        for first in range(0, len(matrix), ROWS):
            block = matrix[first : first + ROWS]
            used = np.flatnonzero(block.any(axis=0))
            if used.size:
                columns = slice(int(used[0]), int(used[-1]) + 1)
                bands.append(Band(slice(first, first + len(block)), columns, np.ascontiguousarray(block[:, columns])))
        return cls(len(matrix), tuple(bands))

    def along(self, voxels: np.ndarray, axis: int) -> np.ndarray:
        """Multiply the matrix (t, n) with an array of any real type along its axis of size n -> float32."""
        before, after = voxels.shape[:axis], voxels.shape[axis + 1 :]
        result = np.zeros((*before, self.rows, *after), np.float32)
        for band in self.bands:
            block = voxels[(slice(None),) * axis + (band.columns,)].astype(np.float32, copy=False)
            target = result[(slice(None),) * axis + (band.rows,)]
            if after:
                flat = block.reshape(*before, block.shape[axis], -1)
                target[...] = (band.weights @ flat).reshape(target.shape)
            else:
                target[...] = block @ band.weights.T
        return result


def along_axis(matrix: np.ndarray, voxels: np.ndarray, axis: int) -> np.ndarray:
    """Multiply a float32 matrix (t, n) with an array of any real type along its axis of size n -> float32."""
    return Banded.of(matrix).along(voxels, axis)
