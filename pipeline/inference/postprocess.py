"""What is known about a structure before it is looked for: that it is one object."""

from collections.abc import Sequence

import cc3d
import numpy as np
from scipy import ndimage


def keep_largest(encoded: np.ndarray, classes: Sequence[int]) -> None:
    """Make background of all but the largest connected object (26 neighbours) of each class, in place.

    encoded: class indices (x, y, z), uint8. classes: the indices that this is done to; they need not occur.
    Of equally large objects the one that comes first in memory is kept.
    """
    boxes = dict(enumerate(ndimage.find_objects(encoded), 1))
    for index in classes:
        box = boxes.get(index)
        if box is None:
            continue
        inside = encoded[box]
        objects = cc3d.connected_components(inside == index, connectivity=26)
        sizes = np.bincount(objects.ravel())[1:]
        inside[(objects != 0) & (objects != 1 + int(np.argmax(sizes)))] = 0
