"""Where the windows lie that cover a volume."""

from itertools import product
from math import ceil

from pipeline.volume.grid import Int3


def starts_along(size: int, window: int, overlap: float) -> list[int]:
    """Return the first voxels of windows along one axis of `size` >= `window` voxels.

    Windows are int(window * (1 - overlap)) voxels apart, at least one; the last one ends with the axis. These are the
    positions of MONAI's `dense_patch_slices`, so that the results can be compared.
    """
    step = window if size == window else max(1, int(window * (1 - overlap)))
    count = 1 + ceil((size - window) / step)
    return [min(i * step, size - window) for i in range(count)]


def window_starts(shape_vox: Int3, window_vox: Int3, overlap: float) -> list[Int3]:
    """Return the first voxel of every window that covers a volume no smaller than a window, x slowest."""
    along = [starts_along(n, w, overlap) for n, w in zip(shape_vox, window_vox, strict=True)]
    return [(x, y, z) for x, y, z in product(*along)]
