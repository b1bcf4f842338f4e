"""CT and labels brought from one grid to another with parallel axes, one axis at a time."""

import numpy as np
from scipy import ndimage

from pipeline.volume.body import body_box
from pipeline.volume.grid import Float3, Grid, Int3, box_of
from pipeline.volume.intensity import AIR_HU
from pipeline.volume.interpolate import along_axis, axis_positions, cubic_matrix, linear_matrix
from pipeline.volume.objects import put_back
from pipeline.volume.volume import Volume

SMOOTHED_FROM = 1.5  # an axis that is shrunk by more than this is smoothed first
TIE = 1e-5  # shares closer than this are equal: they are sums of float32 products
HALF_VOXEL = 0.5 + 1e-3  # how far outside the centres of the end voxels a position still belongs to the volume


def to_training_grid(volume: Volume, spacing_mm: Float3) -> tuple[Volume, Int3, Int3]:
    """Crop a CT to its body, and resample it to exactly this spacing: (CT on the training grid, start, shape).

    start, shape: the crop in voxels of the CT as given. The result is int16 HU on the crop's grid `at_spacing`,
    without a header. Prepare and inference both come through here, so that a network sees the same CT in both.
    """
    start, shape = body_box(volume.voxels)
    crop = volume.grid.crop(start, shape)
    voxels = volume.voxels[box_of(start, shape)]
    grid = crop.at_spacing(spacing_mm)
    hu = resample_image(voxels, crop, grid, outside=AIR_HU)
    limits = np.iinfo(np.int16)
    return Volume(np.clip(np.rint(hu), limits.min, limits.max).astype(np.int16), grid), start, shape


def resample_image(voxels: np.ndarray, source: Grid, target: Grid, outside: float) -> np.ndarray:
    """Resample an image by separable cubic B-splines: (x, y, z) of any real type -> float32 of `target.shape_vox`.

    An axis shrunk by more than 1.5 is smoothed first by a Gaussian of (ratio - 1) / 2 source voxels (the rule of
    skimage.transform.resize). Up to half a voxel outside the source its end voxels go on, further out lies `outside`.
    The result is clipped to the range of the source, so that the spline's overshoot makes no new extremes.
    The axis that shrinks most goes first: memory is the source, and twice what is left after that axis as float32.
    Raises UserError where the two grids' axes are not parallel.
    """
    scale, _ = target.mapping_to(source)
    result = voxels
    for axis in np.argsort(np.array(target.shape_vox) / np.array(source.shape_vox), kind="stable"):
        ratio = abs(scale[axis])
        sigma_vox = (ratio - 1) / 2 if ratio > SMOOTHED_FROM else 0.0
        matrix = cubic_matrix(axis_positions(source, target, axis), source.shape_vox[axis], sigma_vox)
        result = along_axis(matrix, result, axis)
    np.clip(result, voxels.min(), voxels.max(), out=result)
    for axis in range(3):
        beyond = ~is_inside(axis_positions(source, target, axis), source.shape_vox[axis])
        result[(slice(None),) * axis + (beyond,)] = outside
    return result


def is_inside(positions: np.ndarray, count: int) -> np.ndarray:
    """True where a position lies in one of `count` voxels, which reach half a voxel beyond their centres."""
    return (positions >= -HALF_VOXEL) & (positions <= count - 1 + HALF_VOXEL)


def resample_labels(encoded: np.ndarray, source: Grid, target: Grid) -> tuple[np.ndarray, dict[int, int]]:
    """Resample labels by linear interpolation of each class and argmax: (labels, objects put back by class).

    encoded: (x, y, z) uint8, 0 background, 1..n classes, 255 ignored, which is interpolated as a class of its own.
    The result is uint8 of `target.shape_vox`; ties go to the lower class; more than half a voxel outside the source
    is background. On the same grid the labels come back as they are.
    A connected object (26 neighbours) of at least one target voxel's volume that would vanish is put back into the
    voxels that hold most of it, as many as its volume; how many objects that were is told by class, {} is none.
    Raises UserError where the two grids' axes are not parallel.
    """
    labels = interpolated_labels(encoded, source, target)
    return labels, put_back(labels, encoded, source, target)


def interpolated_labels(encoded: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return the class with the largest linearly interpolated share, looking at each class where it occurs."""
    matrices = []
    for axis, count in enumerate(source.shape_vox):
        positions = axis_positions(source, target, axis)
        matrices.append(linear_matrix(positions, count) * is_inside(positions, count)[:, None].astype(np.float32))
    labels = np.zeros(target.shape_vox, np.uint8)
    largest = np.zeros(target.shape_vox, np.float32)
    background = np.ones(target.shape_vox, np.float32)
    for label, box in enumerate(ndimage.find_objects(encoded), 1):
        if box is None:
            continue
        local = [matrix[:, extent] for matrix, extent in zip(matrices, box, strict=True)]
        reached = [np.flatnonzero(matrix.any(axis=1)) for matrix in local]
        if not all(rows.size for rows in reached):
            continue
        place = tuple(slice(rows[0], rows[-1] + 1) for rows in reached)
        share: np.ndarray = encoded[box] == label
        for axis in range(3):
            share = along_axis(local[axis][place[axis]], share, axis)
        background[place] -= share
        wins = share > largest[place] + TIE
        largest[place][wins] = share[wins]
        labels[place][wins] = label
    labels[background >= largest - TIE] = 0
    return labels
