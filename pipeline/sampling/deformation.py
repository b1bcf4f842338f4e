"""How a patch is deformed: mirror, rotation and scale as one matrix, and an elastic displacement."""

from dataclasses import dataclass

import numpy as np

from pipeline.config.augment import AugmentSection, Range
from pipeline.sampling.draw import SPATIAL, Draw, generator
from pipeline.sampling.elastic import Displacement, draw_displacement
from pipeline.volume.grid import Float3, Int3

ROUNDING = 1e-6  # of a spacing, which an oblique grid has from its affine


@dataclass(frozen=True, eq=False)
class Deformation:
    """M and u of x(p) = M (p - o) + u(p) - u(o) + v.

    matrix: M, (3, 3) float64, patch offsets to case offsets, both in voxels.
    displacement: u, in voxels of the case; None where it is zero.
    """

    matrix: np.ndarray
    displacement: Displacement | None

    @property
    def is_straight(self) -> bool:
        """True where each axis of the patch runs along the same axis of the case, at one scale."""
        return self.displacement is None and np.count_nonzero(self.matrix) == 3


def draw_deformation(drawn: Draw, augment: AugmentSection, spacing_mm: Float3, patch_vox: Int3) -> Deformation | None:
    """Return the random deformation of a draw. None where there is none: then the patch is a crop, mirrored or not.

    M = mirror x rotation x 1/magnification, made in mm, so that a rotation stays one where the spacing differs between
    axes. A coarse axis (see `fine_axes`) is mirrored at most. Numbers are drawn in a fixed order, needed or not, so
    that a change that is turned on or off leaves the others as they are.
    """
    random = generator(drawn.key, SPATIAL)
    fine = fine_axes(spacing_mm, augment.anisotropy)
    rotated, scaled = random.random(2) < (augment.rotation_probability, augment.scale_probability)
    angles = np.radians(random.uniform(-augment.rotation_deg, augment.rotation_deg, 3))
    magnification = log_uniform(augment.scale, random)
    displacement = draw_displacement(augment, spacing_mm, patch_vox, fine, random)
    if not rotated and not scaled and displacement is None:
        return None
    matrix_mm = np.diag(np.where(drawn.mirror, -1.0, 1.0))
    if rotated:
        x, y, z = fine
        matrix_mm = matrix_mm @ rotation(angles * (y and z, z and x, x and y))
    if scaled:
        matrix_mm = matrix_mm @ np.diag(np.where(fine, 1 / magnification, 1.0))
    spacing = np.array(spacing_mm)
    return Deformation(matrix_mm * spacing / spacing[:, None], displacement)


def fine_axes(spacing_mm: Float3, anisotropy: float) -> tuple[bool, bool, bool]:
    """Return for x, y, z whether its spacing is at most `anisotropy` times the finest.

    Along the others voxels are too far apart to be interpolated: a value between two slices of 5 mm is a picture of
    neither, and no scanner gives it.
    """
    coarsest_mm = anisotropy * min(spacing_mm) * (1 + ROUNDING)
    x, y, z = (spacing <= coarsest_mm for spacing in spacing_mm)
    return x, y, z


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
