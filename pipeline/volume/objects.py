"""Small objects in a label map that resampling would lose."""

import cc3d
import numpy as np
from scipy import ndimage

from pipeline.labels import IGNORE
from pipeline.volume.grid import Grid
from pipeline.volume.interpolate import along_axis, axis_positions, overlap_matrix

TOUCHED = 1e-6  # the least share of a voxel that counts as lying in it: more than rounding
FEW_VOX = 8  # an object that kept no more voxels than this is not asked for any
Box = tuple[slice, slice, slice]


def put_back(labels: np.ndarray, encoded: np.ndarray, source: Grid, target: Grid) -> dict[int, int]:
    """Write into `labels`, in place, the objects of `encoded` that vanished from it; return how many by class.

    labels: uint8 on `target`; encoded: uint8 on `source`, of which `labels` is a resampled version.
    An object is a connected component (26 neighbours) of a class, ignored voxels aside, of at least one target voxel's
    volume. It vanished where no target voxel that it touches has its class. It then gets the target voxels that it
    fills most, as many as its volume; those that another small object has come last.
    """
    foreground = bounding_box((encoded != 0) & (encoded != IGNORE))
    if foreground is None:
        return {}
    classes = encoded[foreground]
    components = cc3d.connected_components(np.where(classes == IGNORE, 0, classes), connectivity=26)
    statistics = cc3d.statistics(components)
    sizes_vox = statistics["voxel_counts"] * (np.prod(source.spacing_mm) / np.prod(target.spacing_mm))
    owners = owners_of(labels, components, classes, foreground, source, target)
    kept_vox = np.bincount(owners.ravel(), minlength=len(sizes_vox))
    needed = (owners > 0) & (kept_vox[owners] <= FEW_VOX)
    counts: dict[int, int] = {}
    for component in np.flatnonzero((sizes_vox >= 1 - TOUCHED) & (kept_vox == 0)):
        if component == 0:
            continue
        box = statistics["bounding_boxes"][component]
        mask = components[box] == component
        label = int(classes[box][mask][0])
        place, share = filled_voxels(mask, moved(box, foreground), source, target)
        touched = share > TOUCHED
        if not touched.any() or (labels[place][touched] == label).any():
            continue
        order = np.argsort(np.where(touched, needed[place] - share, np.inf), axis=None, kind="stable")
        wanted = min(max(1, round(sizes_vox[component])), np.count_nonzero(touched))
        chosen = np.unravel_index(order[:wanted], share.shape)
        labels[place][chosen] = label
        needed[place][chosen] = True
        counts[label] = counts.get(label, 0) + 1
    return counts


def bounding_box(mask: np.ndarray) -> Box | None:
    """Return the box around what is true, or None where nothing is."""
    return next(iter(ndimage.find_objects(mask.view(np.uint8))), None)


def moved(box: Box, outer: Box) -> Box:
    """Return a box inside another one in the coordinates that the other one is given in."""
    x, y, z = (slice(a.start + b.start, a.stop + b.start) for a, b in zip(box, outer, strict=True))
    return x, y, z


def owners_of(
    labels: np.ndarray, components: np.ndarray, classes: np.ndarray, box: Box, source: Grid, target: Grid
) -> np.ndarray:
    """Return for each target voxel the component that its centre lies in and whose class it has, else 0.

    components, classes: of the part `box` of the source. A component found here has not vanished: a quick test that
    clears most of them.
    """
    places, nearest = [], []
    for axis, extent in enumerate(box):
        index = np.rint(axis_positions(source, target, axis)).astype(np.int64) - extent.start
        places.append(np.flatnonzero((index >= 0) & (index < extent.stop - extent.start)))
        nearest.append(index[places[-1]])
    owners = np.zeros(labels.shape, components.dtype)
    same = labels[np.ix_(*places)] == classes[np.ix_(*nearest)]
    owners[np.ix_(*places)] = np.where(same, components[np.ix_(*nearest)], 0)
    return owners


def filled_voxels(mask: np.ndarray, box: Box, source: Grid, target: Grid) -> tuple[Box, np.ndarray]:
    """Return (place, share): the box of target voxels that an object reaches, and which share of each it fills.

    mask: the object in the part `box` of the source.
    """
    share, place = mask, []
    for axis, extent in enumerate(box):
        positions = axis_positions(source, target, axis) - extent.start
        width_vox = target.spacing_mm[axis] / source.spacing_mm[axis]
        matrix = overlap_matrix(positions, extent.stop - extent.start, width_vox)
        rows = np.flatnonzero(matrix.any(axis=1))
        place.append(slice(rows[0], rows[-1] + 1) if rows.size else slice(0, 0))
        share = along_axis(matrix[place[axis]], share, axis)
    return (place[0], place[1], place[2]), share
