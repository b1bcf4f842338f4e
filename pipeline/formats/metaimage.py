"""Whether a MetaImage file (`.mha`, `.mhd`) is whole.

ITK would guess a geometry that is not there, and take voxels for sound whose unpacking failed: it prints that and goes
on with zeros.
"""

from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import UserError
from pipeline.formats.packed import unpacked_bytes

MOST_LINES = 1000
LONGEST_LINE = 2**16
TRUE, FALSE = ("T", "t", "1"), ("F", "f", "0")  # ITK looks at the first letter
REQUIRED = ("NDims", "DimSize", "ElementType", "ElementDataFile")
LOCAL = "LOCAL"  # as the file of voxels: the header's own
SPACINGS = ("ElementSpacing", "ElementSize")
DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")  # the names that the format has for one thing


def check_whole(path: Path, voxel_bytes: int) -> None:
    """Raise UserError where the voxels of a MetaImage file, `voxel_bytes` when unpacked, are truncated or damaged."""
    fields, header_bytes = read_header(path)
    file = voxel_file(path, fields)
    if file is None or fields.get("BinaryData", "True").startswith(FALSE):
        return  # voxels in many files, or as text: ITK tells what is wrong with those
    start = header_bytes if file == path else 0
    if not file.is_file():
        raise UserError(f"{file}: not found, but {path} says that its voxels are there; put both into one folder.")
    if fields.get("CompressedData", "False").startswith(TRUE):
        found = unpacked_bytes(file, start, _packed_bytes(fields, file))
        if found > voxel_bytes:
            raise UserError(
                f"{file}: damaged, {found} bytes of voxels where {path} promises {voxel_bytes}; copy or make it again."
            )
    else:
        found = file.stat().st_size - start
    if found < voxel_bytes:
        raise UserError(
            f"{file}: truncated, {voxel_bytes - found} bytes are missing at the end; copy or make it again."
        )


def check_header(path: Path) -> None:
    """Raise UserError where a MetaImage file lacks what says how its voxels are stored and where they lie."""
    fields, _ = read_header(path)
    missing = [key for key in REQUIRED if key not in fields]
    if missing:
        raise UserError(f"{path}: not a sound MetaImage file ({missing[0]} is missing); copy or make it again.")
    if not any(key in fields for key in SPACINGS):
        raise UserError(f"{path}: no {SPACINGS[0]}, so the size of a voxel is unknown; write it into the header.")
    if not any(key in fields for key in DIRECTIONS):
        raise UserError(f"{path}: no {DIRECTIONS[0]}, so left and right are unknown; write it into the header.")


def voxel_file(path: Path, fields: Mapping[str, str]) -> Path | None:
    """Return the file that the voxels are in, which may be that of the header; None where they are in many files."""
    data = fields.get("ElementDataFile", LOCAL)
    if data.startswith("LIST") or "%" in data:
        return None
    return path if data.upper() == LOCAL else path.parent / data


def read_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a MetaImage header, which ends with ElementDataFile, and its size in bytes."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(MOST_LINES):
            key, equals, value = file.readline(LONGEST_LINE).decode("latin-1").partition("=")
            if not equals:
                break
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
        return fields, file.tell()


def _packed_bytes(fields: Mapping[str, str], file: Path) -> int:
    """Return how many bytes ITK reads of packed voxels; only of a file of their own it finds that out by itself."""
    is_local = fields["ElementDataFile"].upper() == LOCAL
    stated = fields.get("CompressedDataSize", "" if is_local else str(file.stat().st_size))
    if not stated.isdecimal():
        raise UserError(f"{file}: not a sound MetaImage file (CompressedDataSize is {stated!r}); make it again.")
    return int(stated)
