"""A CT or a label map on its grid, and what is needed to write a result back onto the file it came from."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.volume.grid import Grid


@dataclass(frozen=True, eq=False)
class Header:
    """The geometry of the file as it was, whatever its format.

    stored: what the format's own module needs to write the same geometry again; opaque to all others.
    orientation: nibabel's orientation, (3, 2) float64, that turns RAS+ order back into the file's axes: for each axis
        of RAS+ the axis of the file, and 1 or -1 for the direction.
    """

    stored: Any
    orientation: np.ndarray


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels (x, y, z) in closest RAS+ order on a grid. Images are HU, labels are integers.

    header: geometry of the file it was read from; None for volumes that were made, not read.
    """

    voxels: np.ndarray
    grid: Grid
    header: Header | None = None
