"""Where voxels lie in space."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from pipeline.errors import UserError

Int3 = tuple[int, int, int]
Float3 = tuple[float, float, float]


def box_of(start_vox: Int3, shape_vox: Int3) -> tuple[slice, slice, slice]:
    """Return the index of the box of `shape_vox` voxels that begins at `start_vox`."""
    x, y, z = (slice(first, first + size) for first, size in zip(start_vox, shape_vox, strict=True))
    return x, y, z


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of voxels in RAS+ millimetres.

    shape_vox: voxels along x, y, z.
    affine_mm: (4, 4) float64, voxel index -> RAS+ mm. Column lengths are the spacing; obliqueness stays in it.
    """

    shape_vox: Int3
    affine_mm: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape_vox", tuple(int(n) for n in self.shape_vox))
        affine = np.array(self.affine_mm, dtype=np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "affine_mm", affine)

    @property
    def spacing_mm(self) -> Float3:
        """Distance between neighbouring voxels along x, y, z."""
        x, y, z = np.linalg.norm(self.affine_mm[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def extent_mm(self) -> Float3:
        """Edge lengths of the box that the voxels fill."""
        x, y, z = (n * s for n, s in zip(self.shape_vox, self.spacing_mm, strict=True))
        return x, y, z

    def to_mm(self, points_vox: np.ndarray) -> np.ndarray:
        """Map voxel indices (..., 3) to RAS+ mm (..., 3)."""
        return np.asarray(points_vox, np.float64) @ self.affine_mm[:3, :3].T + self.affine_mm[:3, 3]

    def corners_mm(self) -> np.ndarray:
        """Return the centres of the eight corner voxels, (8, 3) in RAS+ mm."""
        last = np.array(self.shape_vox) - 1
        return self.to_mm(np.array(list(np.ndindex(2, 2, 2))) * last)

    def matches(self, other: "Grid", tolerance_vox: float = 0.1) -> bool:
        """True where the shapes agree and no corner lies further apart than `tolerance_vox` of the finest spacing."""
        if self.shape_vox != other.shape_vox:
            return False
        apart = np.abs(self.corners_mm() - other.corners_mm()).max()
        return bool(apart <= tolerance_vox * min(self.spacing_mm))

    def crop(self, start_vox: Int3, shape_vox: Int3) -> "Grid":
        """Return the grid of the box that begins at `start_vox`; it may reach outside."""
        affine = self.affine_mm.copy()
        affine[:3, 3] = self.to_mm(np.array(start_vox))
        return Grid(shape_vox, affine)

    def at_spacing(self, spacing_mm: Float3) -> "Grid":
        """Return the grid with exactly this spacing over the same box, centred on it.

        Its size is max(1, ceil(n s / t - 0.01)) an axis: a hundredth of a voxel of overhang is not worth a voxel.
        """
        shape = [
            max(1, ceil(n * s / t - 0.01)) for n, s, t in zip(self.shape_vox, self.spacing_mm, spacing_mm, strict=True)
        ]
        affine = np.eye(4)
        affine[:3, :3] = self.affine_mm[:3, :3] / np.array(self.spacing_mm) * np.array(spacing_mm)
        centre_mm = self.to_mm((np.array(self.shape_vox) - 1) / 2)
        affine[:3, 3] = centre_mm - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return Grid((shape[0], shape[1], shape[2]), affine)

    def mapping_to(self, other: "Grid") -> tuple[np.ndarray, np.ndarray]:
        """Return (scale, offset), each (3,), with index in `other` = scale * index in self + offset, axis by axis.

        Raises UserError where the axes of the two grids are not parallel: no scale and offset can map them.
        """
        matrix = np.linalg.solve(other.affine_mm, self.affine_mm)
        scale = np.diag(matrix[:3, :3]).copy()
        across = np.abs(matrix[:3, :3] - np.diag(scale)) * (np.array(self.shape_vox) - 1)
        if across.max() > 0.1:
            raise UserError(
                f"grids with different axes cannot be mapped axis by axis: {self.describe()} and {other.describe()}."
            )
        return scale, matrix[:3, 3].copy()

    def describe(self) -> str:
        """Return shape, spacing and origin in words, for messages."""
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing_mm)
        origin = ", ".join(f"{o:.5g}" for o in self.affine_mm[:3, 3])
        shape = " x ".join(str(n) for n in self.shape_vox)
        return f"{shape} voxels of {spacing} mm from ({origin})"

    def to_json(self) -> dict:
        """Return what `from_json` reads."""
        return {"shape_vox": list(self.shape_vox), "affine_mm": self.affine_mm.tolist()}

    @classmethod
    def from_json(cls, given: dict) -> "Grid":
        """Make a grid of what `to_json` gave."""
        return cls(tuple(given["shape_vox"]), np.array(given["affine_mm"]))
