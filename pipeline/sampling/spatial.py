"""Patches cut from a case through mirror, rotation and scale, with one chosen voxel at one chosen place, exactly."""

import numpy as np
import torch
from torch.nn import functional

from pipeline.config.augment import AugmentSection, Range
from pipeline.sampling.draw import SPATIAL, Draw, generator
from pipeline.store.reader import PreparedCase
from pipeline.volume.grid import Float3, Int3


def draw_matrix(drawn: Draw, augment: AugmentSection, spacing_mm: Float3) -> np.ndarray | None:
    """Return M, (3, 3) float64, that maps an offset in the patch to one in the case, both in voxels.

    M = mirror x rotation x 1/magnification. It is made in mm, so that a rotation stays one where the spacing differs
    between axes. None where the patch is neither rotated nor scaled: then it is a crop, mirrored or not.
    """
    random = generator(drawn.key, SPATIAL)
    rotated, scaled = random.random(2) < (augment.rotation_probability, augment.scale_probability)
    angles = np.radians(random.uniform(-augment.rotation_deg, augment.rotation_deg, 3))
    magnification = log_uniform(augment.scale, random)
    if not rotated and not scaled:
        return None
    matrix_mm = np.diag(np.where(drawn.mirror, -1.0, 1.0))
    if rotated:
        matrix_mm = matrix_mm @ rotation(angles)
    if scaled:
        matrix_mm = matrix_mm / magnification
    spacing = np.array(spacing_mm)
    return matrix_mm * spacing / spacing[:, None]


def log_uniform(bounds: Range, random: np.random.Generator) -> float:
    """Return a factor whose logarithm is uniform: half and double are equally likely in (0.5, 2)."""
    low, high = np.log(bounds)
    return float(np.exp(random.uniform(low, high)))


def rotation(angles: np.ndarray) -> np.ndarray:
    """Return the (3, 3) rotation about x, then y, then z by three angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[first, first] = about[second, second] = np.cos(angle)
        about[second, first] = np.sin(angle)
        about[first, second] = -about[second, first]
        matrix = about @ matrix
    return matrix


def crop(case: PreparedCase, drawn: Draw, patch_vox: Int3) -> tuple[np.ndarray, np.ndarray]:
    """Read a patch, mirrored where the draw says so: image int16 HU and labels uint8, both of shape `patch_vox`.

    Equal to `warp` by the diagonal matrix of the mirror. Outside the case lie air and background.
    """
    sides = zip(drawn.voxel, drawn.place_vox, drawn.mirror, patch_vox, strict=True)
    x, y, z = (voxel - (size - 1 - place if flip else place) for voxel, place, flip, size in sides)
    step = tuple(slice(None, None, -1 if flip else 1) for flip in drawn.mirror)
    image, labels = case.read((x, y, z), patch_vox)
    return np.ascontiguousarray(image[step]), np.ascontiguousarray(labels[step])


def warp(
    case: PreparedCase, drawn: Draw, matrix: np.ndarray, patch_vox: Int3, displacement_vox: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sample a patch at x(p) = M (p - o) + u(p) - u(o) + v: image float32 HU, labels uint8, of shape `patch_vox`.

    matrix: M, (3, 3), patch offsets to case offsets in voxels. displacement_vox: u, (3, *patch_vox) in case voxels.
    The image is interpolated linearly, labels are taken from the nearest voxel. Only the box that is needed is read;
    outside the case lie air and background. The label at o is the one of voxel v, whatever M and u are.
    """
    positions = relative_positions(matrix, drawn.place_vox, patch_vox, displacement_vox)
    start, shape = needed_box(positions, drawn.voxel, case.grid.shape_vox)
    for axis in range(3):
        positions[axis] += drawn.voxel[axis] - start[axis]
    image, labels = case.read(start, shape)
    return linear(image, positions), nearest(labels, positions)


def relative_positions(
    matrix: np.ndarray, place_vox: Int3, patch_vox: Int3, displacement_vox: np.ndarray | None
) -> np.ndarray:
    """Return x(p) - v for each voxel p of a patch: (3, *patch_vox) float32, exactly 0 at `place_vox`."""
    x, y, z = (np.arange(size, dtype=np.float32) - place for size, place in zip(patch_vox, place_vox, strict=True))
    positions = np.empty((3, *patch_vox), np.float32)
    for axis, (from_x, from_y, from_z) in enumerate(matrix.astype(np.float32)):
        plane = (from_x * x)[:, None] + from_y * y
        np.add(plane[:, :, None], from_z * z, out=positions[axis])
    if displacement_vox is not None:
        here = displacement_vox[(slice(None), *place_vox)]
        positions += displacement_vox - here[:, None, None, None]
    return positions


def needed_box(positions: np.ndarray, voxel: Int3, case_vox: Int3) -> tuple[Int3, Int3]:
    """Return start and shape of the box of voxels around `voxel` + `positions`, for linear interpolation.

    It ends one voxel outside the case: that layer is air, and so is all beyond it. At least 2 voxels an axis.
    """
    lowest = np.floor(positions.min(axis=(1, 2, 3))).astype(int) + voxel
    highest = np.floor(positions.max(axis=(1, 2, 3))).astype(int) + voxel + 1
    start = np.maximum(lowest, -1)
    x, y, z = (np.minimum(highest, case_vox) + 1 - start).tolist()
    return tuple(start.tolist()), (x, y, z)


def linear(image: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Interpolate an image (x, y, z) of any type at positions (3, ...) in voxels; beyond its edge the edge goes on."""
    scaled = [positions[axis] * (2 / (image.shape[axis] - 1)) - 1 for axis in (2, 1, 0)]  # torch counts axes from last
    places = torch.from_numpy(np.stack(scaled)).permute(1, 2, 3, 0)
    voxels = torch.from_numpy(image.astype(np.float32))
    found = functional.grid_sample(voxels[None, None], places[None], padding_mode="border", align_corners=True)
    return found[0, 0].numpy()


def nearest(labels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Take labels (x, y, z) at the voxels nearest to positions (3, ...); beyond the edge the edge goes on."""
    voxels = np.rint(positions).astype(np.intp)
    return labels.ravel()[np.ravel_multi_index(tuple(voxels), labels.shape, mode="clip")]
