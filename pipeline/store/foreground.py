"""Voxels of each class to draw patches around: few enough to keep, and some from every object."""

import cc3d
import numpy as np
from scipy.ndimage import find_objects

from pipeline.labels import IGNORE

MOST_OF_CLASS = 10_000
LEAST_OF_OBJECT = 100


def foreground_coordinates(encoded: np.ndarray) -> dict[int, np.ndarray]:
    """Return voxels of every class that occurs: class index -> (n, 3) int32, in the order of the array.

    encoded: (x, y, z) uint8; 0 and 255 are no classes. {} where there is no class.
    A class of up to 10,000 voxels has all of them. Of a larger one 10,000 are drawn at random, with at least 100, or
    all, of every connected object (26 neighbours); objects too many for that get equally many. The same array always
    gives the same voxels.
    """
    found = {}
    for label, box in enumerate(find_objects(encoded), 1):
        if box is not None and label != IGNORE:
            corner = [extent.start for extent in box]
            found[label] = (coordinates_of(encoded[box] == label) + corner).astype(np.int32)
    return found


def coordinates_of(mask: np.ndarray) -> np.ndarray:
    """Return the voxels of a class, or those chosen of them, where `mask`, bool (x, y, z), has it: (n, 3)."""
    places = np.flatnonzero(mask)
    if len(places) > MOST_OF_CLASS:
        component = cc3d.connected_components(mask, connectivity=26)
        places = places[choose(component.reshape(-1)[places])]
    return np.stack(np.unravel_index(places, mask.shape), axis=1)


def choose(component: np.ndarray) -> np.ndarray:
    """Choose among the voxels of a class: object number of each (n,) -> sorted positions, at most 10,000.

    Object numbers are small: a table of them is made.
    """
    if len(component) <= MOST_OF_CLASS:
        return np.arange(len(component))
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(component))
    sizes = np.bincount(component)
    present = np.flatnonzero(sizes)
    if len(present) == 1:
        return np.sort(order[:MOST_OF_CLASS])
    number_of = np.zeros(len(sizes), np.min_scalar_type(len(present)))  # 16 bits are sorted several times faster
    number_of[present] = np.arange(len(present))
    number, sizes = number_of[component[order]], sizes[present]
    guaranteed = rank_within(number, sizes) < guaranteed_of_object(sizes)
    first = np.argsort(~guaranteed, kind="stable")
    return np.sort(order[first[:MOST_OF_CLASS]])


def rank_within(number: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return how many earlier entries of `number` (0..k - 1) are equal to each; sizes: how often each number occurs."""
    grouped = np.argsort(number, kind="stable")
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(number), np.int64)
    rank[grouped] = np.arange(len(number)) - starts[number[grouped]]
    return rank


def guaranteed_of_object(sizes: np.ndarray) -> int:
    """Return how many voxels each object may have for certain: 100, or fewer where all of them would be too many."""
    fitting = (least for least in range(LEAST_OF_OBJECT, 1, -1) if np.minimum(sizes, least).sum() <= MOST_OF_CLASS)
    return next(fitting, 1)
