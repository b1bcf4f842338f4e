"""Small objects in a label map that resampling would lose.

Nearly every object keeps a voxel. So it is first sought out which voxels prove that their object is still there; those
that hang together with a proof go with it, and only what is left is split into objects.
"""

from collections.abc import Iterator
from itertools import product

import cc3d
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.labels import IGNORE
from pipeline.volume.body import Box, box_above, grown
from pipeline.volume.grid import Grid
from pipeline.volume.interpolate import along_axis, axis_positions, overlap_matrix

TOUCHED = 1e-6  # the least share of a voxel that counts as lying in it: more than rounding
FEW_VOX = 8  # an object that has no more voxels than this is not asked for any
NEIGHBOURS = sorted(set(product((-1, 0, 1), repeat=3)) - {(0, 0, 0)}, key=lambda step: sum(map(abs, step)))


def put_back(labels: np.ndarray, encoded: np.ndarray, source: Grid, target: Grid) -> dict[int, int]:
    """Write into `labels`, in place, the objects of `encoded` that vanished from it; return how many by class.

    labels: uint8 on `target`; encoded: uint8 on `source`, of which `labels` is a resampled version.
    An object is a connected component (26 neighbours) of a class, ignored voxels aside, of at least one target voxel's
    volume. It vanished where no target voxel that it touches has its class. It then gets the target voxels that it
    fills most, as many as its volume; those that another small object has come last.
    """
    counts: dict[int, int] = {}
    voxel_share = float(np.prod(source.spacing_mm) / np.prod(target.spacing_mm))
    taken = np.zeros(labels.shape, bool)
    for label, voxels in unproven_objects(labels, encoded, source, target):
        size_vox = len(voxels) * voxel_share
        if size_vox < 1 - TOUCHED:
            continue
        place, share = filled_voxels(voxels, source, target)
        touched = share > TOUCHED
        if not touched.any() or (labels[place][touched] == label).any():
            continue
        last = taken[place] | small_objects(labels, place)
        order = np.argsort(np.where(touched, last - share, np.inf), axis=None, kind="stable")
        wanted = min(max(1, round(size_vox)), np.count_nonzero(touched))
        chosen = np.unravel_index(order[:wanted], share.shape)
        labels[place][chosen] = label
        taken[place][chosen] = True
        counts[label] = counts.get(label, 0) + 1
    return counts


def unproven_objects(
    labels: np.ndarray, encoded: np.ndarray, source: Grid, target: Grid
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (class, (n, 3) voxels of the source) of each object that no target voxel nearest to one of its voxels has.

    All that vanished are among them.
    """
    box = box_above(encoded, 0)
    if box is None:
        return
    proofs, places, classes = find_proofs(labels, encoded, box, source, target)
    steps = [int(np.dot(step, (proofs.shape[1] * proofs.shape[2], proofs.shape[2], 1))) for step in NEIGHBOURS]
    places, classes = without_proof(proofs.reshape(-1), places, classes, steps)
    corner = np.array([extent.start - 1 for extent in box])
    for members in connected(places, classes, steps):
        voxels = np.stack(np.unravel_index(places[members], proofs.shape), axis=1)
        yield int(classes[members[0]]), voxels + corner


def find_proofs(
    labels: np.ndarray, encoded: np.ndarray, box: Box, source: Grid, target: Grid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which voxels prove their object, and which do not: (proofs, places, classes).

    A voxel is a proof where the target voxel that its centre lies in has its class.
    proofs: uint8, the part `box` of the source with a border of one voxel; a proof has its class, all else is 0.
    places, classes: (n,) flat index in `proofs` and class of the other voxels of objects, in ascending order.
    """
    proofs = np.zeros([extent.stop - extent.start + 2 for extent in box], np.uint8)
    nearest, inside = [], []
    for axis, extent in enumerate(box):
        index = np.rint(axis_positions(target, source, axis)[extent]).astype(np.int64)
        nearest.append(index.clip(0, target.shape_vox[axis] - 1))
        inside.append(nearest[axis] == index)
    places, classes = [], []
    for x, plane in enumerate(encoded[box]):
        found = labels[nearest[0][x]].take(nearest[2], axis=1).take(nearest[1], axis=0)
        objects = np.where(plane == IGNORE, 0, plane)
        found[~inside[1]] = 0
        found[:, ~inside[2]] = 0
        proof = np.where(found == objects, objects, 0) * inside[0][x]
        proofs[x + 1, 1:-1, 1:-1] = proof
        others = np.flatnonzero(proof != objects)
        y, z = np.divmod(others, objects.shape[1])
        places.append(((x + 1) * proofs.shape[1] + y + 1) * proofs.shape[2] + z + 1)
        classes.append(objects.reshape(-1)[others])
    return proofs, np.concatenate(places), np.concatenate(classes)


def without_proof(
    proofs: np.ndarray, places: np.ndarray, classes: np.ndarray, steps: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places, with their classes, from where no step after step within the class leads to a proof.

    proofs: flat; what is led to a proof becomes one. steps: from a flat index to those of its neighbours.
    """
    before = -1
    while len(places) != before:
        before = len(places)
        for step in steps:
            led = proofs[places + step] == classes
            proofs[places[led]] = classes[led]
            places, classes = places[~led], classes[~led]
    return places, classes


def connected(places: np.ndarray, classes: np.ndarray, steps: list[int]) -> list[np.ndarray]:
    """Return for each object the positions in `places`, which are ascending flat indices, that it is made of."""
    if not len(places):
        return []
    pairs = []
    for step in (step for step in steps if step > 0):
        other = np.searchsorted(places, places + step).clip(max=len(places) - 1)
        linked = np.flatnonzero((places[other] == places + step) & (classes[other] == classes))
        pairs.append((linked, other[linked]))
    first, second = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(places), len(places)))
    _, number = connected_components(graph, directed=False)
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)


def filled_voxels(voxels: np.ndarray, source: Grid, target: Grid) -> tuple[Box, np.ndarray]:
    """Return (place, share): the box of target voxels that an object reaches, and which share of each it fills.

    voxels: (n, 3) of the source.
    """
    start = voxels.min(axis=0)
    share = np.zeros(voxels.max(axis=0) - start + 1, bool)
    share[tuple((voxels - start).T)] = True
    place = []
    for axis, size in enumerate(share.shape):
        width_vox = target.spacing_mm[axis] / source.spacing_mm[axis]
        matrix = overlap_matrix(axis_positions(source, target, axis) - start[axis], size, width_vox)
        rows = np.flatnonzero(matrix.any(axis=1))
        place.append(slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0))
        share = along_axis(matrix[place[axis]], share, axis)
    return (place[0], place[1], place[2]), share


def small_objects(labels: np.ndarray, place: Box) -> np.ndarray:
    """Return which voxels in a box of a label map belong to objects of at most 8 voxels."""
    around = grown(place, FEW_VOX, labels.shape)
    components = cc3d.connected_components(np.where(labels[around] == IGNORE, 0, labels[around]), connectivity=26)
    small = np.bincount(components.ravel()) <= FEW_VOX
    small[0] = False
    inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(place, around, strict=True))
    return small[components[inner]]
