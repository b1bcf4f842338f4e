"""Patches read from a case, cut straight or through a deformation, with one chosen voxel at one chosen place, exactly.

A deformed patch is sampled a slab of planes at a time: the arrays of a slab stay in a core's cache, and eight gathers
and seven interpolations over them take half the time of torch's grid_sample. One that is scaled only is sampled along
one axis after the other, which gives the same and takes a third of that.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from pipeline.sampling.deformation import Deformation
from pipeline.sampling.draw import Draw
from pipeline.store.reader import PreparedCase
from pipeline.volume.grid import Int3
from pipeline.volume.interpolate import along_axis, linear_matrix

SLAB_VOXELS = 2**16


def crop(case: PreparedCase, drawn: Draw, patch_vox: Int3) -> tuple[np.ndarray, np.ndarray]:
    """Read a patch, mirrored where the draw says so: image int16 HU and labels uint8, both of shape `patch_vox`.

    Equal to `warp` by the diagonal matrix of the mirror. Outside the case lie air and background.
    """
    sides = zip(drawn.voxel, drawn.place_vox, drawn.mirror, patch_vox, strict=True)
    x, y, z = (voxel - (size - 1 - place if flip else place) for voxel, place, flip, size in sides)
    step = tuple(slice(None, None, -1 if flip else 1) for flip in drawn.mirror)
    image, labels = case.read((x, y, z), patch_vox)
    return np.ascontiguousarray(image[step]), np.ascontiguousarray(labels[step])


def warp(case: PreparedCase, drawn: Draw, deformation: Deformation, patch_vox: Int3) -> tuple[np.ndarray, np.ndarray]:
    """Sample a patch at x(p) = M (p - o) + u(p) - u(o) + v: image float32 HU, labels uint8, of shape `patch_vox`.

    The image is interpolated linearly, labels are taken from the nearest voxel. Only the box that is needed is read;
    outside the case lie air and background. Voxel v comes to lie at o exactly, whatever M and u are.
    """
    start, shape = needed_box(deformation, drawn, patch_vox, case.grid.shape_vox)
    image_hu, encoded = case.read(start, shape)
    if deformation.is_straight:
        return stretch(image_hu, encoded, straight_positions(deformation, drawn, patch_vox, start))
    source, source_labels = image_hu.astype(np.float32), encoded.ravel()
    image, labels = np.empty(patch_vox, np.float32), np.empty(patch_vox, np.uint8)
    for slab, positions in slab_positions(deformation, drawn, patch_vox, start):
        lower, share = split(positions, shape)
        image[slab] = linear(source, lower, share)
        labels[slab] = nearest(source_labels, shape, lower, share)
    return image, labels


def straight_positions(deformation: Deformation, drawn: Draw, patch_vox: Int3, start: Int3) -> list[np.ndarray]:
    """Return x(p) - start along x, y and z, float64, of a deformation that mixes no axes."""
    sides = zip(np.diag(deformation.matrix), patch_vox, drawn.place_vox, drawn.voxel, start, strict=True)
    return [factor * (np.arange(size) - place) + (voxel - first) for factor, size, place, voxel, first in sides]


def stretch(image: np.ndarray, labels: np.ndarray, positions: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate an image linearly, and take labels from the nearest voxel, along one axis after the other."""
    for axis, places in enumerate(positions):
        size = image.shape[axis]
        image = along_axis(linear_matrix(places, size), image, axis)
        voxels = np.ceil(places - 0.5).astype(np.intp).clip(0, size - 1)  # half way the lower one, as in `nearest`
        labels = labels.take(voxels, axis)
    return image, labels


def needed_box(deformation: Deformation, drawn: Draw, patch_vox: Int3, case_vox: Int3) -> tuple[Int3, Int3]:
    """Return start and shape of the box of voxels that a patch touches, for linear interpolation.

    It ends one voxel outside the case: that layer is air, and so is all beyond it. At least 2 voxels an axis.
    """
    ends = [(-place, size - 1 - place) for size, place in zip(patch_vox, drawn.place_vox, strict=True)]
    corners = np.array(list(product(*ends))) @ deformation.matrix.T + drawn.voxel
    lowest, highest = corners.min(axis=0), corners.max(axis=0)
    if deformation.displacement is not None:
        low, high = deformation.displacement.bounds()
        here = deformation.displacement.at(drawn.place_vox)
        lowest, highest = lowest + low - here, highest + high - here
    start = np.maximum(np.floor(lowest).astype(int), -1)
    x, y, z = (np.minimum(np.floor(highest).astype(int) + 1, case_vox) + 1 - start).tolist()
    return tuple(start.tolist()), (x, y, z)


def slab_positions(
    deformation: Deformation, drawn: Draw, patch_vox: Int3, start: Int3
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices along x of a patch with x(p) - start of their voxels, (3, planes, y, z) float32."""
    offsets = [
        np.arange(size, dtype=np.float32) - place for size, place in zip(patch_vox, drawn.place_vox, strict=True)
    ]
    from_x, from_y, from_z = deformation.matrix.T.astype(np.float32)
    plane = np.multiply.outer(from_y, offsets[1])[:, :, None] + np.multiply.outer(from_z, offsets[2])[:, None, :]
    destination = np.subtract(drawn.voxel, start).astype(np.float32)
    plane += destination[:, None, None]
    along_x = np.multiply.outer(from_x, offsets[0])
    if deformation.displacement is not None:
        plane -= deformation.displacement.at(drawn.place_vox)[:, None, None]
    planes = max(1, SLAB_VOXELS // (patch_vox[1] * patch_vox[2]))
    for first in range(0, patch_vox[0], planes):
        slab = slice(first, min(first + planes, patch_vox[0]))
        positions = along_x[:, slab, None, None] + plane[:, None]
        if deformation.displacement is not None:
            positions += deformation.displacement.slab(slab.start, slab.stop)
            if slab.start <= drawn.place_vox[0] < slab.stop:  # here alone u(p) - u(o) must not be rounded
                positions[:, drawn.place_vox[0] - slab.start, drawn.place_vox[1], drawn.place_vox[2]] = destination
        yield slab, positions


def split(positions: np.ndarray, shape: Int3) -> tuple[np.ndarray, np.ndarray]:
    """Split positions (3, ...) in a box into the flat index of the voxel below, and the share (3, ...) of the next.

    Positions outside the box are moved to its edge, just short of the last voxel: a next one is always there. Changes
    `positions`.
    """
    for axis, size in enumerate(shape):
        np.clip(positions[axis], 0, np.nextafter(np.float32(size - 1), np.float32(0)), out=positions[axis])
    lower = np.floor(positions)
    positions -= lower
    whole = lower.astype(np.int32)
    flat = whole[0].astype(np.intp)
    for axis in (1, 2):
        flat *= shape[axis]
        flat += whole[axis]
    return flat, positions


def linear(image: np.ndarray, lower: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate an image float32 (x, y, z) between the voxels at flat indices `lower` and the next ones."""
    flat = image.ravel()
    steps = (image.shape[1] * image.shape[2], image.shape[2], 1)
    return between(flat, steps, lower, share)


def between(flat: np.ndarray, steps: tuple[int, ...], lower: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate along the first of `steps` between what interpolation along the others gives."""
    if not steps:
        return flat.take(lower, mode="wrap")  # every index is in range; "wrap" is the mode that does not copy
    here = between(flat, steps[1:], lower, share[1:])
    beyond = between(flat[steps[0] :], steps[1:], lower, share[1:])
    beyond -= here
    beyond *= share[0]
    beyond += here
    return beyond


def nearest(labels: np.ndarray, shape: Int3, lower: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Take labels, flat, of a box of `shape` at the voxels nearest; half way, the lower one. Changes `share`."""
    np.rint(share, out=share)
    share[0] *= shape[1] * shape[2]
    share[1] *= shape[2]
    share[0] += share[1]
    share[0] += share[2]
    return labels.take(lower + share[0].astype(np.intp), mode="wrap")
