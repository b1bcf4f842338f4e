"""What is known about a structure before it is looked for: that it is one object."""

from collections.abc import Sequence

import cc3d
import numpy as np


def keep_largest(encoded: np.ndarray, classes: Sequence[int]) -> None:
    """Make background of all but the largest connected object (26 neighbours) of each class, in place.

    encoded: class indices (x, y, z), uint8. classes: the indices that this is done to; they need not occur.
    Of equally large objects the one that comes first in memory is kept.
    """
    for index in classes:
        objects = cc3d.connected_components(encoded == index, connectivity=26)
        sizes = np.bincount(objects.ravel())[1:]
        if len(sizes) > 1:
            encoded[(objects != 0) & (objects != 1 + int(np.argmax(sizes)))] = 0
