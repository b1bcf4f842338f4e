"""CT and labels brought from one grid to another with parallel axes, one axis at a time."""

from collections.abc import Iterator

import numpy as np

from pipeline.volume.body import body_box
from pipeline.volume.grid import Float3, Grid, Int3, box_of
from pipeline.volume.intensity import AIR_HU
from pipeline.volume.interpolate import Band, Banded, axis_positions, cubic_matrix, is_inside
from pipeline.volume.objects import put_back
from pipeline.volume.shares import interpolated_labels
from pipeline.volume.volume import Volume

SMOOTHED_FROM = 1.5  # an axis that is shrunk by more than this is smoothed first


def to_training_grid(volume: Volume, spacing_mm: Float3) -> tuple[Volume, Int3, Int3]:
    """Crop a CT to its body, and resample it to exactly this spacing: (CT on the training grid, start, shape).

    start, shape: the crop in voxels of the CT as given. The result is int16 HU on the crop's grid `at_spacing`,
    without a header. Prepare and inference both come through here, so that a network sees the same CT in both.
    """
    start, shape = body_box(volume.voxels)
    crop = volume.grid.crop(start, shape)
    grid = crop.at_spacing(spacing_mm)
    return Volume(resample_image(volume.voxels[box_of(start, shape)], crop, grid, AIR_HU), grid), start, shape


def resample_image(voxels: np.ndarray, source: Grid, target: Grid, outside: int) -> np.ndarray:
    """Resample an image by separable cubic B-splines: (x, y, z) of any real type -> int16 of `target.shape_vox`.

    An axis shrunk by more than 1.5 is smoothed first by a Gaussian of (ratio - 1) / 2 source voxels (the rule of
    skimage.transform.resize). Up to half a voxel outside the source its end voxels go on, further out lies `outside`.
    The result is clipped to the range of the source, so that the spline's overshoot makes no new extremes, then
    rounded, and clipped to int16. The sums are float32, and stay within 1 HU of float64 for all that int16 holds.
    Memory beside source and result is a window of some planes.
    Raises UserError where the two grids' axes are not parallel.
    """
    along_x, along_y, along_z = (image_matrix(source, target, axis) for axis in range(3))
    limits = np.iinfo(np.int16)
    low, high = np.clip((float(voxels.min()), float(voxels.max())), limits.min, limits.max)
    result = np.empty(target.shape_vox, np.int16)
    for band, planes in windows(voxels, along_x, along_y, along_z):
        hu = (band.weights @ planes.reshape(len(planes), -1)).reshape(-1, *planes.shape[1:])
        np.clip(hu, low, high, out=hu)
        result[band.rows] = np.rint(hu, out=hu)
    for axis in range(3):
        beyond = ~is_inside(axis_positions(source, target, axis), source.shape_vox[axis])
        result[(slice(None),) * axis + (beyond,)] = outside
    return result


def image_matrix(source: Grid, target: Grid, axis: int) -> Banded:
    """Return the interpolation of an image along one axis, smoothing included."""
    ratio = abs(target.mapping_to(source)[0][axis])
    sigma_vox = (ratio - 1) / 2 if ratio > SMOOTHED_FROM else 0.0
    return Banded.of(cubic_matrix(axis_positions(source, target, axis), source.shape_vox[axis], sigma_vox))


def windows(voxels: np.ndarray, along_x: Banded, along_y: Banded, along_z: Banded) -> Iterator[tuple[Band, np.ndarray]]:
    """Yield each band along x with the planes of the source that it needs, resampled along y and z, float32.

    Every plane is converted and resampled once, and kept as long as a later band needs it. The axis that makes a plane
    smaller goes first.
    """
    y_first = along_y.rows * voxels.shape[2] <= voxels.shape[1] * along_z.rows
    first, planes = 0, np.empty((0, along_y.rows, along_z.rows), np.float32)
    for band in sorted(along_x.bands, key=lambda band: band.columns.start):
        kept = planes[band.columns.start - first :]
        first = band.columns.start
        planes = np.empty((band.columns.stop - first, *kept.shape[1:]), np.float32)
        planes[: len(kept)] = kept
        for index in range(len(kept), len(planes)):
            plane = voxels[first + index].astype(np.float32)
            in_order = ((along_y, 0), (along_z, 1)) if y_first else ((along_z, 1), (along_y, 0))
            for matrix, axis in in_order:
                plane = matrix.along(plane, axis)
            planes[index] = plane
        yield band, planes


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
