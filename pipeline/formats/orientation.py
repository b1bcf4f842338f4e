"""The axes of a file and the closest RAS+ order: one turned into the other by permutation and flips, never rotated."""

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from pipeline.errors import UserError
from pipeline.volume.grid import Grid
from pipeline.volume.volume import Header

RAS = axcodes2ornt("RAS")
SHEAR_COSINE = 1e-3  # axes whose cosine is larger than this are not at right angles
BLOCK_VOX = (32, 8, 64)  # of two orders at once this much lies in the fast caches


def closest_ras(file_grid: Grid) -> tuple[Grid, np.ndarray]:
    """Return a file's grid with its axes in closest RAS+ order, and the orientation that turns that order back.

    The orientation is nibabel's, (3, 2): see `Header`.
    """
    to_ras = io_orientation(file_grid.affine_mm)
    shape_vox = [0, 0, 0]
    for size, place in zip(file_grid.shape_vox, to_ras[:, 0], strict=True):
        shape_vox[int(place)] = size
    affine_mm = file_grid.affine_mm @ inv_ornt_aff(to_ras, file_grid.shape_vox)
    return Grid((shape_vox[0], shape_vox[1], shape_vox[2]), affine_mm), ornt_transform(RAS, to_ras)


def in_file_order(voxels_ras: np.ndarray, header: Header) -> np.ndarray:
    """Return voxels (x, y, z) in RAS+ order as a view (first, second, third) in the order of the file's axes."""
    return apply_orientation(voxels_ras, header.orientation)


def copy(target: np.ndarray, source: np.ndarray) -> None:
    """Copy (x, y, z) voxels between two memory orders, block by block.

    Both orders pass through the cache a block at a time: 3 to 5 times faster than one assignment, whatever the axes.
    """
    (along_x, along_y, along_z), (size_x, size_y, size_z) = BLOCK_VOX, source.shape
    for x in range(0, size_x, along_x):
        for y in range(0, size_y, along_y):
            for z in range(0, size_z, along_z):
                block = slice(x, x + along_x), slice(y, y + along_y), slice(z, z + along_z)
                target[block] = source[block]


def check_affine(affine_mm: np.ndarray, what: str) -> None:
    """Raise UserError where an affine is not finite, has an axis without length, or axes not at right angles."""
    if not np.isfinite(affine_mm).all():
        raise UserError(f"{what} has values that are NaN or infinite; set it anew.")
    lengths = np.linalg.norm(affine_mm[:3, :3], axis=0)
    if lengths.min() < 1e-6:
        listed = " x ".join(f"{length:g}" for length in lengths)
        raise UserError(f"{what} has spacing {listed} mm; expected three positive numbers: set it anew.")
    axes = affine_mm[:3, :3] / lengths
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosine > SHEAR_COSINE:
        raise UserError(
            f"{what} is sheared (the cosine between two axes is {cosine:.3g}, at most {SHEAR_COSINE:g} is accepted); "
            "resample the volume to axes at right angles."
        )
