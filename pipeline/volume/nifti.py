"""NIfTI files: a CT or a label map read in closest RAS+ order, and a label map written onto a CT's own geometry."""

import gzip
import zlib
from math import prod
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError

from pipeline.errors import UserError
from pipeline.files import replacing
from pipeline.volume.grid import Grid, Int3
from pipeline.volume.volume import Header, Volume

RAS = axcodes2ornt("RAS")
SHEAR_COSINE = 1e-3  # axes whose cosine is larger than this are not at right angles
GEOMETRY_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "sform_code", "srow_x", "srow_y", "srow_z"),
)
Scaling = tuple[float, float]  # slope, intercept
UNSCALED: Scaling = (1.0, 0.0)


def read_image(path: Path) -> Volume:
    """Read a CT: voxels (x, y, z) in HU, slope and intercept applied, C-contiguous, in closest RAS+ order.

    The voxels are int16 where every HU is a whole number that fits, else float32. A slope of 0 or NaN means none.
    Axes are permuted and flipped, never rotated; the header keeps what `write_label` needs.
    Raises UserError where the file is missing, damaged or no NIfTI file, has not three axes, has voxels that are NaN,
    infinite, complex or colours, or a geometry that is absent, sheared, without volume, or contradicts itself.
    """
    raw, scaling, grid, header = read(path)
    return Volume(to_hu(raw, scaling, path), grid, header)


def read_label(path: Path) -> Volume:
    """Read a label map: voxels (x, y, z) in an integer type with the file's values, in closest RAS+ order.

    Values stored as float, or with a slope, are accepted where they are whole numbers, and become int32.
    Raises UserError as `read_image` does, and where a value is a fraction.
    """
    raw, scaling, grid, header = read(path)
    return Volume(to_integers(raw, scaling, path), grid, header)


def write_label(path: Path, voxels_ras: np.ndarray, like: Volume) -> None:
    """Write a label map onto the geometry of the file that `like` was read from, atomically; `.nii` or `.nii.gz`.

    voxels_ras: (x, y, z) of an integer type, on `like.grid`. Their type is the file's.
    Shape, pixdim, qform and sform with their codes, and units are those of the file, bit by bit. Slope, intercept and
    description are set anew, everything else in the header is left empty: nothing about a patient is copied.
    Raises ValueError where `like` was not read from a file, or the voxels have another shape or no integer type.
    """
    if like.header is None or voxels_ras.shape != like.grid.shape_vox or voxels_ras.dtype.kind not in "iu":
        raise ValueError(
            f"integer labels of {like.grid.shape_vox} on a volume that was read from a file, "
            f"not {voxels_ras.dtype} {voxels_ras.shape}"
        )
    original = like.header.nifti
    header = type(original)()
    for field in GEOMETRY_FIELDS:
        header[field] = original[field]
    header.set_data_dtype(voxels_ras.dtype)
    header["descrip"] = b"hounsfield"
    voxels = apply_orientation(voxels_ras, like.header.orientation).reshape(original.get_data_shape())
    image_class = nib.Nifti2Image if isinstance(original, nib.Nifti2Header) else nib.Nifti1Image
    with replacing(path) as temporary:
        nib.save(image_class(voxels, None, header), temporary)


def read(path: Path) -> tuple[np.ndarray, Scaling, Grid, Header]:
    """Return the stored values in closest RAS+ order (C-contiguous, native), their scaling, grid and header."""
    raw, scaling, header = parse(content(path), path)
    file_grid = read_grid(header, raw.shape, path)
    orientation = io_orientation(file_grid.affine_mm)
    voxels = apply_orientation(raw, orientation)
    affine = file_grid.affine_mm @ inv_ornt_aff(orientation, raw.shape)
    voxels = np.array(voxels, dtype=raw.dtype.newbyteorder("="), order="C")
    return voxels, scaling, Grid(voxels.shape, affine), Header(header, ornt_transform(RAS, orientation))


def content(path: Path) -> bytes:
    """Return a file's bytes, unzipped where its name ends in .gz; the whole stream, so that its checksum is tested."""
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        raise UserError(f"{path}: expected a NIfTI file, .nii or .nii.gz; convert it first.")
    try:
        stored = path.read_bytes()
        data = gzip.decompress(stored) if name.endswith(".gz") else stored
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; check the path.") from error
    except gzip.BadGzipFile as error:
        raise UserError(f"{path}: not a sound gzip file ({error}); copy or make it again.") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: truncated or damaged gzip file ({error}); copy or make it again.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is a file you may read.") from error
    if not data:
        raise UserError(f"{path}: empty file; copy or make it again.")
    return data


def parse(data: bytes, path: Path) -> tuple[np.ndarray, Scaling, nib.Nifti1Header]:
    """Return the stored values (x, y, z) in the file's order, not copied, with their scaling and the header.

    The header is taken as it stands: nibabel's own check would turn a spacing of 0 into 1.
    """
    kinds = [kind for kind in (nib.Nifti1Header, nib.Nifti2Header) if kind.may_contain_header(data[:540])]
    if not kinds:
        raise UserError(f"{path}: not a NIfTI file; expected a CT or a label map as .nii or .nii.gz.")
    try:
        header = kinds[0](data[: kinds[0].template_dtype.itemsize], check=False)
        dtype = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
        offset = int(header["vox_offset"])
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: damaged NIfTI header ({error}); copy or make it again.") from error
    if offset < header.sizeof_hdr:
        raise UserError(f"{path}: damaged NIfTI header (voxels from byte {offset} on); copy or make it again.")
    if dtype.kind not in "iuf":
        raise UserError(f"{path}: voxels are complex numbers or colours; expected one real number a voxel.")
    shape = spatial_shape(header.get_data_shape(), path)
    missing = offset + prod(shape) * dtype.itemsize - len(data)
    if missing > 0:
        raise UserError(f"{path}: truncated, {missing} bytes are missing at the end; copy or make it again.")
    raw: np.ndarray = np.ndarray(shape, dtype, data, offset, order="F")
    return raw, UNSCALED if slope is None else (float(slope), float(intercept)), header


def spatial_shape(shape: tuple[int, ...], path: Path) -> Int3:
    """Return the three sizes of a volume; trailing axes of size 1 do not count. Raises UserError for anything else."""
    found = " x ".join(str(n) for n in shape)
    if min(shape, default=0) < 1:
        raise UserError(f"{path}: no voxels (shape {found}); expected a volume with three axes.")
    if len(shape) < 3:
        raise UserError(f"{path}: {len(shape)}D (shape {found}); expected a volume with three axes, not a slice.")
    if prod(shape[3:]) != 1:
        raise UserError(
            f"{path}: {len(shape)}D (shape {found}); expected three axes: write each volume to its own file."
        )
    return shape[0], shape[1], shape[2]


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


def to_hu(raw: np.ndarray, scaling: Scaling, path: Path) -> np.ndarray:
    """Return HU: int16 where all are whole and fit, else float32."""
    if raw.dtype == np.int16 and scaling == UNSCALED:
        return raw
    with np.errstate(over="ignore", invalid="ignore"):
        hu = raw.astype(np.float32)
        if scaling != UNSCALED:
            hu *= scaling[0]
            hu += scaling[1]
    check_finite(hu, path, "replace them by -1024, which is air")
    limits = np.iinfo(np.int16)
    if limits.min <= hu.min() and hu.max() <= limits.max:
        whole = hu.astype(np.int16)
        if np.array_equal(whole, hu):
            return whole
    return hu


def to_integers(raw: np.ndarray, scaling: Scaling, path: Path) -> np.ndarray:
    """Return label values: as stored where those are integers without a slope, else int32. UserError on fractions."""
    if raw.dtype.kind in "iu" and scaling == UNSCALED:
        return raw
    values = raw if scaling == UNSCALED else raw * scaling[0] + scaling[1]
    check_finite(values, path, "write the original integers, 0 for background")
    with np.errstate(invalid="ignore"):
        whole = np.rint(values).astype(np.int32)
    # A slope has the precision of float32: 51 * (5 / 255) is not quite 1.
    fractions = ~np.isclose(values, whole, rtol=1e-6, atol=1e-6)
    if fractions.any():
        hint = "the labels look rescaled to 0..1" if values.min() >= 0 and values.max() <= 1 else "this is no label map"
        raise UserError(
            f"{path}: label value {values[fractions][0]:.4g} (and {np.count_nonzero(fractions)} voxels like it) is not "
            f"a whole number of 32 bits; {hint}: write the original integers."
        )
    return whole


def check_finite(values: np.ndarray, path: Path, cure: str) -> None:
    """Raise UserError with the number of voxels that are NaN or infinite, if there are any, and the cure."""
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise UserError(f"{path}: {bad} of {values.size} voxels are NaN or infinite; {cure}.")
