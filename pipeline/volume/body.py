"""Where the patient is in a CT."""

import numpy as np

from pipeline.volume.grid import Int3

AIR_BELOW_HU = -500.0


def body_box(voxels_hu: np.ndarray, air_hu: float = AIR_BELOW_HU, margin_vox: int = 4) -> tuple[Int3, Int3]:
    """Return (start, shape) in voxels of the box around everything above `air_hu`, with a margin, inside the volume.

    voxels_hu: (x, y, z) HU of any real type. The table and single bright voxels count as body: a box too large is
    only slow. Where nothing is above `air_hu` it is the whole volume.
    """
    above = voxels_hu > air_hu
    start, shape = [], []
    for axis, size in enumerate(above.shape):
        used = np.flatnonzero(above.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = (used[0], used[-1]) if used.size else (0, size - 1)
        first, last = max(0, int(first) - margin_vox), min(size - 1, int(last) + margin_vox)
        start.append(first)
        shape.append(last - first + 1)
    return (start[0], start[1], start[2]), (shape[0], shape[1], shape[2])
