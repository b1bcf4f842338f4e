"""NIfTI files: voxels read in closest RAS+ order, and a label map written onto a file's own geometry.

Voxels are read a few planes at a time straight into their order, so that neither the compressed nor the unpacked file
is ever held as a whole. ISA-L unpacks twice as fast as zlib.
"""

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError

from pipeline.errors import UserError
from pipeline.files import replacing
from pipeline.formats.orientation import check_affine, closest_ras, copy, in_file_order
from pipeline.formats.values import UNSCALED, Scaling, Stored, spatial_shape
from pipeline.volume.grid import Grid, Int3
from pipeline.volume.volume import Header

IsalError = cast(type[Exception], isal_zlib.error)  # its stub takes it for an instance
GEOMETRY_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "sform_code", "srow_x", "srow_y", "srow_z"),
)
HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
PLANES = 32  # that are read at once: a cache line of each row of the result
MOST_PACKED = 1032  # bytes that one byte of a gzip stream can stand for
COMPRESSION = 1  # of 0 to 3; on label maps ISA-L's level 1 is the smallest and nearly the fastest


def read(path: Path) -> Stored:
    """Read a NIfTI file, single (`.nii`) or zipped (`.nii.gz`), to its end, so that its checksum is tested.

    Axes are permuted and flipped, never rotated. A slope of 0 or NaN means none.
    Raises UserError where the file is missing, damaged or no NIfTI file, has not three axes, has voxels that are
    complex or colours, or a geometry that is absent, sheared, without volume, or contradicts itself.
    """
    with opened(path) as stream:
        header = parse(stream.read(HEADER_BYTES), path)
        shape_vox = spatial_shape(header.get_data_shape(), path)
        file_grid = read_grid(header, shape_vox, path)
        grid, orientation = closest_ras(file_grid)
        kept = Header(header, orientation)
        check_size(header, path)
        stream.seek(int(header["vox_offset"]))
        voxels = np.empty(grid.shape_vox, header.get_data_dtype().newbyteorder("="))
        fill(in_file_order(voxels, kept), stream, header.get_data_dtype(), path)
        while stream.read(2**20):
            pass
    return Stored(voxels, scaling_of(header), grid, kept)


def write(path: Path, voxels_ras: np.ndarray, header: Header) -> None:
    """Write a label map (x, y, z) with the geometry of the NIfTI file that `header` is of, bit by bit, atomically.

    Slope, intercept and description are set anew, everything else in the header is left empty: nothing about a patient
    is copied. The same label map gives the same bytes.
    """
    original = header.stored
    fresh = type(original)()
    for field in GEOMETRY_FIELDS:
        fresh[field] = original[field]
    fresh.set_data_dtype(voxels_ras.dtype)
    fresh["descrip"] = b"hounsfield"
    voxels = in_file_order(voxels_ras, header).reshape(original.get_data_shape())
    image_class = nib.Nifti2Image if isinstance(original, nib.Nifti2Header) else nib.Nifti1Image
    image = image_class(voxels, None, fresh)
    with replacing(path) as temporary, temporary.open("wb") as file:
        if is_zipped(path):
            with igzip.IGzipFile("", "wb", COMPRESSION, file, mtime=0) as stream:
                image.to_file_map({"image": FileHolder(fileobj=stream)})
        else:
            image.to_file_map({"image": FileHolder(fileobj=file)})


def is_zipped(path: Path) -> bool:
    """Tell by its name whether a file is a gzip stream."""
    return path.name.lower().endswith(".gz")


@contextmanager
def opened(path: Path) -> Iterator[BufferedIOBase]:
    """Open a file, unzipped where its name ends in .gz; what is wrong with it becomes a UserError."""
    try:
        with igzip.open(path, "rb") if is_zipped(path) else path.open("rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; check the path.") from error
    except gzip.BadGzipFile as error:
        raise UserError(f"{path}: not a sound gzip file ({error}); copy or make it again.") from error
    except (EOFError, IsalError) as error:
        raise UserError(f"{path}: truncated or damaged gzip file ({error}); copy or make it again.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is a file you may read.") from error


def parse(data: bytes, path: Path) -> nib.Nifti1Header:
    """Return the header in the first bytes of a file, as it stands: nibabel's own check would mend a spacing of 0."""
    if not data:
        raise UserError(f"{path}: empty file; copy or make it again.")
    kinds = [kind for kind in (nib.Nifti1Header, nib.Nifti2Header) if kind.may_contain_header(data)]
    if not kinds:
        raise UserError(f"{path}: not a NIfTI file; expected a CT or a label map as .nii or .nii.gz.")
    try:
        header = kinds[0](data[: kinds[0].template_dtype.itemsize], check=False)
        dtype = header.get_data_dtype()
        header.get_slope_inter()
        offset = int(header["vox_offset"])
    except KeyError as error:
        raise UserError(f"{path}: damaged NIfTI header (data type {error}); copy or make it again.") from error
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: damaged NIfTI header ({error}); copy or make it again.") from error
    if offset < header.sizeof_hdr:
        raise UserError(f"{path}: damaged NIfTI header (voxels from byte {offset} on); copy or make it again.")
    if dtype.kind not in "iuf":
        raise UserError(f"{path}: voxels are complex numbers or colours; expected one real number a voxel.")
    return header


def scaling_of(header: nib.Nifti1Header) -> Scaling:
    """Return slope and intercept."""
    slope, intercept = header.get_slope_inter()
    return UNSCALED if slope is None else (float(slope), float(intercept))


def check_size(header: nib.Nifti1Header, path: Path) -> None:
    """Raise UserError where a file is too small for its voxels, before memory is asked for them."""
    needed = int(header["vox_offset"]) + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
    missing = needed - path.stat().st_size * (MOST_PACKED if is_zipped(path) else 1)
    if missing > 0:
        raise truncated(path, missing)


def fill(voxels: np.ndarray, stream: BufferedIOBase, dtype: np.dtype, path: Path) -> None:
    """Read voxels, in the order of the file's axes, from a stream that stores the first axis fastest."""
    first, second, third = voxels.shape
    planes = np.empty((first, second, min(PLANES, third)), dtype, order="F")
    for start in range(0, third, PLANES):
        stored = planes[:, :, : third - start]
        missing = stored.nbytes - stream.readinto(stored.reshape(-1, order="F").view(np.uint8).data)
        if missing:
            left = (third - start - stored.shape[2]) * first * second * dtype.itemsize
            raise truncated(path, missing + left)
        copy(voxels[:, :, start : start + PLANES], stored)


def truncated(path: Path, missing: int) -> UserError:
    """Return what a user is told about a file that ends too early."""
    return UserError(f"{path}: truncated, {missing} bytes are missing at the end; copy or make it again.")


def read_grid(header: nib.Nifti1Header, shape_vox: Int3, path: Path) -> Grid:
    """Return the grid in the file's own axes: the sform where its code is above 0, else the qform.

    Raises UserError where neither has a code (nibabel would guess left and right), where both have one and differ,
    and where what counts is sheared, not finite or without volume.
    """
    spacing_mm = np.asarray(header["pixdim"][1:4], np.float64)
    if not (np.isfinite(spacing_mm) & (spacing_mm > 0)).all():
        listed = " x ".join(f"{s:g}" for s in spacing_mm)
        raise UserError(
            f"{path}: spacing (pixdim) {listed} mm; expected three positive numbers: set them in the header."
        )
    header = header.copy()
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1  # the standard reads a missing handedness as 1, nibabel raises
    try:
        forms = {"sform": header.get_sform(coded=True)[0], "qform": header.get_qform(coded=True)[0]}
    except (HeaderDataError, ValueError) as error:
        raise UserError(f"{path}: the qform cannot be read ({error}); set qform or sform anew.") from error
    grids = {name: Grid(shape_vox, affine) for name, affine in forms.items() if affine is not None}
    if not grids:
        raise UserError(
            f"{path}: neither sform nor qform has a code above 0, so left and right are unknown; "
            "set the sform or the qform in the header."
        )
    for name, grid in grids.items():
        check_affine(grid.affine_mm, f"{path}: {name}")
    if len(grids) == 2 and not grids["sform"].matches(grids["qform"]):
        listed = "; ".join(f"{name} {grid.affine_mm[:3].round(4).tolist()}" for name, grid in grids.items())
        raise UserError(
            f"{path}: sform and qform differ by more than 0.1 voxel: {listed}; set the wrong one's code to 0."
        )
    return next(iter(grids.values()))
