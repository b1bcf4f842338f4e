"""Elastic deformation: a smooth displacement of a patch, from a coarse grid of control points."""

from dataclasses import dataclass

import numpy as np

from pipeline.config.augment import AugmentSection
from pipeline.volume.grid import Float3, Int3
from pipeline.volume.interpolate import along_axis, spline_basis

BORDER = 3  # control points beyond the last whole cell that a cubic B-spline reaches, one of them before the first


@dataclass(frozen=True, eq=False)
class Displacement:
    """u over a patch (x, y, z), in voxels of the case: a cubic B-spline of control points.

    basis: (x, n) float32, the weight of the n planes of control points at each x of the patch; a row sums to 1.
    planes: (3, n, y, z) float32, the displacement along each axis of each such plane, at all y and z of the patch.
    """

    basis: np.ndarray
    planes: np.ndarray

    def slab(self, first: int, last: int) -> np.ndarray:
        """Return u for the x from `first` up to, not including, `last`: (3, last - first, y, z) float32."""
        axes, count, *plane = self.planes.shape
        found = self.basis[first:last] @ self.planes.reshape(axes, count, -1)
        return found.reshape(axes, -1, *plane)

    def at(self, place_vox: Int3) -> np.ndarray:
        """Return u at one voxel of the patch: (3,) float32."""
        x, y, z = place_vox
        return self.planes[:, :, y, z] @ self.basis[x]

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a lower and an upper bound of u along each axis, each (3,): a spline stays within its planes."""
        return self.planes.min(axis=(1, 2, 3)), self.planes.max(axis=(1, 2, 3))


def draw_displacement(
    augment: AugmentSection,
    spacing_mm: Float3,
    patch_vox: Int3,
    bent: tuple[bool, bool, bool],
    random: np.random.Generator,
) -> Displacement | None:
    """Return a random displacement of a patch; None where its probability says so, or its strength is 0.

    Each control point moves uniformly within a cube of half side up to `elastic_mm`, along the axes `bent` only.
    Control points many voxels apart give what others call grid distortion.
    """
    wanted = random.random() < augment.elastic_probability
    strength_mm = random.uniform(0, augment.elastic_mm)
    if not wanted or strength_mm == 0:
        return None
    bases = [
        control_basis(size, spacing, augment.elastic_spacing_mm)
        for size, spacing in zip(patch_vox, spacing_mm, strict=True)
    ]
    moves_mm = random.uniform(-strength_mm, strength_mm, (3, *(basis.shape[1] for basis in bases)))
    moves_vox = moves_mm * (np.array(bent) / spacing_mm)[:, None, None, None]
    planes = along_axis(bases[2], along_axis(bases[1], moves_vox, 2), 3)
    return Displacement(bases[0], planes)


def control_basis(size: int, spacing_mm: float, control_mm: float) -> np.ndarray:
    """Return (size, n) float32: the weights of n control points, `control_mm` apart, at the voxels along one axis."""
    positions = np.arange(size) * (spacing_mm / control_mm)
    count = int(positions[-1]) + 1 + BORDER
    return spline_basis(positions + 1, count).astype(np.float32)
