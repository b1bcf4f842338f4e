"""MetaImage and NRRD files, through SimpleITK; ITK's axes are LPS, the opposite of RAS in x and y."""

import errno
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from pipeline.errors import UserError
from pipeline.files import replacing
from pipeline.formats import metaimage, nrrd
from pipeline.formats.orientation import check_affine, closest_ras, copy, in_file_order
from pipeline.formats.values import UNSCALED, Stored, spatial_shape
from pipeline.volume.grid import Grid, Int3
from pipeline.volume.volume import Header

WRITERS = {".mha": "MetaImageIO", ".nrrd": "NrrdImageIO"}
READERS = {".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO"}
REAL_TYPES = {
    **{sitk.sitkInt8: np.int8, sitk.sitkInt16: np.int16, sitk.sitkInt32: np.int32, sitk.sitkInt64: np.int64},
    **{sitk.sitkUInt8: np.uint8, sitk.sitkUInt16: np.uint16, sitk.sitkUInt32: np.uint32, sitk.sitkUInt64: np.uint64},
    **{sitk.sitkFloat32: np.float32, sitk.sitkFloat64: np.float64},
}
LPS = "left-posterior-superior"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Geometry:
    """What an ITK file says about where its voxels lie, in its own axes and LPS mm; for every axis, three or more."""

    size: tuple[int, ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]


def read(path: Path) -> Stored:
    """Read a MetaImage or NRRD file. Axes are permuted and flipped to closest RAS+ order, never rotated.

    Raises UserError where the file, or the file of voxels that it names, is missing or damaged, has not three axes,
    more than one number or a complex one a voxel, or a geometry that is absent, sheared or without volume.
    """
    information = open_header(path)
    kind = REAL_TYPES.get(information.GetPixelIDValue())
    if kind is None:
        raise UserError(
            f"{path}: {information.GetNumberOfComponents()} numbers a voxel, of the type "
            f"{sitk.GetPixelIDValueAsString(information.GetPixelIDValue())}; expected one real number a voxel."
        )
    geometry = Geometry(
        information.GetSize(), information.GetOrigin(), information.GetSpacing(), information.GetDirection()
    )
    shape_vox = spatial_shape(geometry.size, path)
    file_grid = grid_of(geometry, shape_vox, path)
    check_whole(path, prod(shape_vox) * np.dtype(kind).itemsize)
    try:
        image = information.Execute()
    except RuntimeError as error:
        raise not_sound(path, error) from error
    grid, orientation = closest_ras(file_grid)
    header = Header(geometry, orientation)
    voxels = np.empty(grid.shape_vox, kind)
    copy(in_file_order(voxels, header), sitk.GetArrayViewFromImage(image).T.reshape(shape_vox, order="F"))
    return Stored(voxels, UNSCALED, grid, header)


def write(path: Path, voxels_ras: np.ndarray, header: Header) -> None:
    """Write a label map (x, y, z) with the origin, spacing and direction that `header` has, packed and atomically.

    Raises OSError where the machine refuses a part of it.
    """
    geometry: Geometry = header.stored
    voxels = in_file_order(voxels_ras, header)
    stored = np.empty(voxels.shape, voxels.dtype, order="F")
    copy(stored, voxels)
    image = sitk.GetImageFromArray(stored.reshape(geometry.size, order="F").T, isVector=False)
    image.SetOrigin(geometry.origin)
    image.SetSpacing(geometry.spacing)
    image.SetDirection(geometry.direction)
    with replacing(path) as temporary:
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(temporary))
        writer.SetImageIO(WRITERS[path.suffix.lower()])
        writer.UseCompressionOn()
        try:
            writer.Execute(image)
            open_header(temporary)  # ITK does not notice where a full disk refuses the last bytes
            check_whole(temporary, voxels.nbytes)
        except (RuntimeError, UserError) as error:
            raise OSError(errno.EIO, reason_of(error), str(path)) from error


def open_header(path: Path) -> sitk.ImageFileReader:
    """Return a reader that has read the header of a file and nothing else."""
    reader = READERS[path.suffix.lower()]
    try:
        path.open("rb").close()
        if reader == "MetaImageIO":
            metaimage.check_header(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; check the path.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is a file you may read.") from error
    information = sitk.ImageFileReader()
    information.SetFileName(str(path))
    information.SetImageIO(reader)
    try:
        information.ReadImageInformation()
    except RuntimeError as error:
        raise not_sound(path, error) from error
    if reader == "NrrdImageIO":
        space = information.GetMetaData("NRRD_space") if information.HasMetaDataKey("NRRD_space") else "none"
        if space != LPS:  # ITK turns the other two anatomical spaces into this one
            raise UserError(f"{path}: its space is {space}, so left and right are unknown; set the field to {LPS}.")
    return information


def check_whole(path: Path, voxel_bytes: int) -> None:
    """Raise UserError where the voxels of a file, `voxel_bytes` when unpacked, are truncated or damaged."""
    if READERS[path.suffix.lower()] == "MetaImageIO":
        metaimage.check_whole(path, voxel_bytes)
    else:
        nrrd.check_whole(path)


def grid_of(geometry: Geometry, shape_vox: Int3, path: Path) -> Grid:
    """Return the grid of a file in its own axes and RAS+ mm. UserError where it is sheared, or without volume."""
    axes = len(geometry.size)
    spacing_mm = np.array(geometry.spacing[:3])
    if not (np.isfinite(spacing_mm) & (spacing_mm > 0)).all():
        listed = " x ".join(f"{s:g}" for s in spacing_mm)
        raise UserError(f"{path}: spacing {listed} mm; expected three positive numbers: set them in the header.")
    direction = np.array(geometry.direction).reshape(axes, axes)[:3, :3]
    affine_mm = np.eye(4)
    affine_mm[:3, :3] = LPS_TO_RAS @ direction * spacing_mm
    affine_mm[:3, 3] = LPS_TO_RAS @ np.array(geometry.origin[:3])
    check_affine(affine_mm, f"{path}: direction")
    return Grid(shape_vox, affine_mm)


def not_sound(path: Path, error: RuntimeError) -> UserError:
    """Return what a user is told about a file that ITK cannot read."""
    return UserError(f"{path}: truncated, damaged or of another format ({reason_of(error)}); copy or make it again.")


def reason_of(error: Exception) -> str:
    """Return the last line of ITK's long messages, which has the reason."""
    return str(error).strip().splitlines()[-1].removeprefix("[nrrd] ")
