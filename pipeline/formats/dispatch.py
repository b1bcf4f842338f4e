"""The file formats of CTs and label maps: which names they have, and who reads and writes each."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np

from pipeline.errors import UserError
from pipeline.files import stamp
from pipeline.formats import metaimage, nifti, nrrd
from pipeline.formats.values import Stored, to_hu, to_integers
from pipeline.volume.volume import Volume

NIFTI = (".nii.gz", ".nii")
ITK = (".mha", ".mhd", ".nrrd", ".nhdr")
SUFFIXES = (*NIFTI, *ITK)
EXPECTED = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"  # for messages
ONE_FILE = {".mhd": ".mha", ".nhdr": ".nrrd"}  # a header with its voxels in a second file -> both in one


def suffix_of(path: Path) -> str | None:
    """Return the one of SUFFIXES that a file's name ends in, in letters of either size; None where it is none."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def stem(path: Path) -> str | None:
    """Return a file's name without the suffix of a known format, in letters of either size; None for other files."""
    suffix = suffix_of(path)
    return None if suffix is None else path.name[: -len(suffix)]


def written_name(path: Path) -> str:
    """Return the name of a label map that is written for a CT: that of its file.

    Where the CT is a header (`.mhd`, `.nhdr`) with its voxels in a second file, the label map is one file; and ITK
    writes no suffix in capital letters.
    """
    suffix = suffix_of(path)
    if suffix is None or suffix in NIFTI:
        return path.name
    return f"{stem(path)}{ONE_FILE.get(suffix, suffix)}"


def files_in(folder: Path) -> dict[str, Path]:
    """Return the files of known formats of a folder by case name (`stem`), sorted; hidden ones are not looked at.

    Raises UserError where two of them are of one case.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = stem(path)
        if name is None or path.name.startswith("."):
            continue
        if name in found:
            raise UserError(f"{found[name]} and {path} are two files for the case {name!r}; remove one of them.")
        found[name] = path
    return found


def stamps_of(files: Mapping[str, Path]) -> dict[str, Any]:
    """Return the `stamp` of each file by its role; None for one that is not there.

    Where a header (`.mhd`, `.nhdr`) has its voxels in a second file, that one stands under "ROLE voxels": it may change
    alone. Where they are in many files, only the header is looked at.
    """
    parts = dict(files)
    for role, path in files.items():
        second = second_file(path)
        if second is not None:
            parts[f"{role} voxels"] = second
    return {role: stamp(path) if path.exists() else None for role, path in parts.items()}


def second_file(path: Path) -> Path | None:
    """Return the file that a header has its voxels in; None where there is no other than its own, or no one file."""
    suffix = suffix_of(path)
    if suffix in ITK:
        kind = metaimage if suffix in (".mha", ".mhd") else nrrd
        with suppress(OSError):  # whoever reads the file tells what is wrong with it
            file = kind.voxel_file(path, kind.read_header(path)[0])
            return file if file != path and file is not None and file.is_file() else None
    return None


def read_image(path: Path) -> Volume:
    """Read a CT: voxels (x, y, z) in HU, slope and intercept applied, C-contiguous, in closest RAS+ order.

    The voxels are int16 where every HU is a whole number that fits, else float32. Axes are permuted and flipped, never
    rotated; the header keeps what `write_label` needs.
    Raises UserError where the file is missing, damaged or of no known format, has not three axes, has voxels that are
    NaN, infinite, complex, colours or vectors, or a geometry that is absent, sheared, without volume, or contradicts
    itself.
    """
    stored = read(path)
    return Volume(to_hu(stored.voxels, stored.scaling, path), stored.grid, stored.header)


def read_label(path: Path) -> Volume:
    """Read a label map: voxels (x, y, z) in an integer type with the file's values, in closest RAS+ order.

    Values stored as float, or with a slope, are accepted where they are whole numbers, and become int32.
    Raises UserError as `read_image` does, and where a value is a fraction.
    """
    stored = read(path)
    return Volume(to_integers(stored.voxels, stored.scaling, path), stored.grid, stored.header)


def write_label(path: Path, voxels_ras: np.ndarray, like: Volume) -> None:
    """Write a label map onto the geometry of the file that `like` was read from, atomically, in that file's format.

    voxels_ras: (x, y, z) of an integer type, on `like.grid`. Their type is the file's.
    The geometry is that of the file, bit by bit; nothing about a patient is copied.
    Raises ValueError where `like` was not read from a file, or from one of another format than `path` has (see
    `written_name`), or where the voxels have another shape or no integer type.
    """
    if like.header is None or voxels_ras.shape != like.grid.shape_vox or voxels_ras.dtype.kind not in "iu":
        raise ValueError(
            f"integer labels of {like.grid.shape_vox} on a volume that was read from a file, "
            f"not {voxels_ras.dtype} {voxels_ras.shape}"
        )
    suffix = suffix_of(path)
    if suffix is None or suffix in ONE_FILE or (suffix in NIFTI) != isinstance(like.header.stored, nib.Nifti1Header):
        raise ValueError(f"{path}: another format than that of the file whose geometry it is to have")
    module_of(suffix).write(path, voxels_ras, like.header)


def read(path: Path) -> Stored:
    """Read a file with the reader of its suffix. Raises UserError as `read_image` does."""
    suffix = suffix_of(path)
    if suffix is None:
        raise UserError(f"{path}: expected a file of the format {EXPECTED}; convert it first.")
    return module_of(suffix).read(path)


def module_of(suffix: str) -> ModuleType:
    """Return what reads and writes files of a suffix.

    SimpleITK takes 90 MiB and a tenth of a second of every process that imports it: only its own files bring it in.
    """
    if suffix in NIFTI:
        return nifti
    from pipeline.formats import itk

    return itk
