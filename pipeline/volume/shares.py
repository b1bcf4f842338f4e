"""Labels on another grid: of each target voxel the class with the largest linearly interpolated share.

Only the eight source voxels around a target voxel have a share in it. Where they are of one class, that is its label
and nothing is computed; shares are found for the others alone, the voxels at boundaries.
"""

from typing import NamedTuple

import numpy as np

from pipeline.volume.body import box_above, grown
from pipeline.volume.grid import Grid
from pipeline.volume.interpolate import axis_positions, is_inside

TIE = 1e-9  # shares closer than this are equal: they differ by the rounding of float64
NO_CLASS = 255  # no lower than any class, for a minimum over classes


class Cells(NamedTuple):
    """Rows of the target along one axis, and the two source voxels that each lies between.

    rows: of the target. lower, upper: (n,) index in the source. share: (2, n) float64, how much of each counts.
    """

    rows: slice
    lower: np.ndarray
    upper: np.ndarray
    share: np.ndarray


def interpolated_labels(encoded: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return the class with the largest share, (x, y, z) uint8 -> uint8 of `target.shape_vox`.

    Ties go to the lower class; more than half a voxel outside the source is background.
    Raises UserError where the two grids' axes are not parallel.
    """
    labels = np.zeros(target.shape_vox, np.uint8)
    box = box_above(encoded, 0) or (slice(0, 1),) * 3
    x, y, z = (cells_of(source, target, axis, extent) for axis, extent in enumerate(grown(box, 1, encoded.shape)))
    for row, lower, upper, share in zip(range(x.rows.start, x.rows.stop), x.lower, x.upper, x.share.T, strict=True):
        planes = encoded[lower], encoded[upper]
        labels[row, y.rows, z.rows] = labels_between(planes, share, y, z)
    return labels


def cells_of(source: Grid, target: Grid, axis: int, extent: slice) -> Cells:
    """Return the rows of the target inside the source that lie between voxels of `extent`, or at its ends."""
    count = source.shape_vox[axis]
    positions = axis_positions(source, target, axis)
    clamped = np.clip(positions, 0, count - 1)
    reached = is_inside(positions, count) & (clamped >= extent.start) & (clamped <= extent.stop - 1)
    rows = np.flatnonzero(reached)
    lower = np.minimum(np.floor(clamped[rows]).astype(np.int64), max(0, count - 2))
    upper_share = clamped[rows] - lower
    within = slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0)
    return Cells(within, lower, np.minimum(lower + 1, count - 1), np.stack([1 - upper_share, upper_share]))


def labels_between(planes: tuple[np.ndarray, np.ndarray], share_x: np.ndarray, y: Cells, z: Cells) -> np.ndarray:
    """Return the labels (n, m) of a plane of the target that lies between two planes (y, z) of the source.

    share_x: (2,) how much each of the two counts.
    """
    edges = [plane[rows] for plane in planes for rows in (y.lower, y.upper)]
    first = edges[0]
    same = (first == edges[1]) & (first == edges[2]) & (first == edges[3])
    cells = max(1, first.shape[1] - 1)  # between neighbours along z; a single voxel is its own neighbour
    same = same[:, :cells] & same[:, -cells:] & (first[:, :cells] == first[:, -cells:])
    labels = first.take(z.lower, axis=1)
    mixed = np.flatnonzero(~same.take(z.lower, axis=1))
    row, column = np.divmod(mixed, len(z.lower))
    ends = [row * first.shape[1] + end.take(column) for end in (z.lower, z.upper)]
    corners = np.stack([edge.take(end) for edge in edges for end in ends])
    shares = share_x[:, None, None, None] * y.share[:, None, row][None] * z.share[:, column]
    labels.reshape(-1)[mixed] = largest_share(corners, shares.reshape(8, -1))
    return labels


def largest_share(corners: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return of each column the class with the largest sum of shares; corners: (8, n) uint8, shares: (8, n) float64."""
    chosen = corners.min(axis=0)
    # Half of all is enough, and most voxels lie between two classes: the lowest or the highest has it.
    left = np.flatnonzero(share_of(chosen, corners, shares) < 0.5 - TIE / 2)
    corners, shares = corners[:, left], shares[:, left]
    highest = corners.max(axis=0)
    chosen[left] = highest
    few = np.flatnonzero(share_of(highest, corners, shares) <= 0.5 + TIE / 2)
    corners, shares = corners[:, few], shares[:, few]
    each = np.stack([share_of(corner, corners, shares) for corner in corners])
    chosen[left[few]] = np.where(each >= each.max(axis=0) - TIE, corners, NO_CLASS).min(axis=0)
    return chosen


def share_of(label: np.ndarray, corners: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return which share a class, one for each column, has in the column."""
    return np.einsum("kn,kn->n", corners == label, shares)
