"""Where the patient is in a CT."""

from math import floor

import numpy as np

from pipeline.volume.grid import Int3

AIR_BELOW_HU = -500.0
Box = tuple[slice, slice, slice]


def body_box(voxels_hu: np.ndarray, air_hu: float = AIR_BELOW_HU, margin_vox: int = 4) -> tuple[Int3, Int3]:
    """Return (start, shape) in voxels of the box around everything above `air_hu`, with a margin, inside the volume.

    voxels_hu: (x, y, z) HU of any real type. The table and single bright voxels count as body: a box too large is
    only slow. Where nothing is above `air_hu` it is the whole volume.
    """
    box = box_above(voxels_hu, air_hu)
    if box is None:
        return (0, 0, 0), (voxels_hu.shape[0], voxels_hu.shape[1], voxels_hu.shape[2])
    x, y, z = grown(box, margin_vox, voxels_hu.shape)
    return (x.start, y.start, z.start), (x.stop - x.start, y.stop - y.start, z.stop - z.start)


def box_above(voxels: np.ndarray, limit: float) -> Box | None:
    """Return the box around all voxels (x, y, z) above a limit, or None where there are none."""
    if voxels.dtype.kind in "iu":
        limit = floor(limit)  # says the same of integers, which are then not converted to be compared
    held = np.zeros(voxels.shape[0], bool)
    across = np.zeros(voxels.shape[1:], bool)
    for index, plane in enumerate(voxels):  # a plane at a time stays in the processor's cache
        above = plane > limit
        held[index] = above.any()
        across |= above
    if not held.any():
        return None
    x, y, z = (np.flatnonzero(used) for used in (held, across.any(axis=1), across.any(axis=0)))
    return slice(int(x[0]), int(x[-1]) + 1), slice(int(y[0]), int(y[-1]) + 1), slice(int(z[0]), int(z[-1]) + 1)


def grown(box: Box, margin_vox: int, shape_vox: tuple[int, ...]) -> Box:
    """Return a box with a margin on all sides, but inside a volume of `shape_vox`."""
    x, y, z = (
        slice(max(0, extent.start - margin_vox), min(size, extent.stop + margin_vox))
        for extent, size in zip(box, shape_vox, strict=True)
    )
    return x, y, z
