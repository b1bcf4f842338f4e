"""Whether the packed voxels of an NRRD file (`.nrrd`, `.nhdr`) are whole: ITK does not look at their checksum."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import UserError
from pipeline.formats.packed import unpacked_bytes

MOST_LINES = 10_000
LONGEST_LINE = 2**16
GZIP = ("gzip", "gz")


def check_whole(path: Path) -> None:
    """Raise UserError where voxels of an NRRD file that are packed by gzip are truncated or damaged."""
    fields, header_bytes = read_header(path)
    if fields.get("encoding", "").lower() not in GZIP or {"line skip", "lineskip", "byte skip", "byteskip"} & set(
        fields
    ):
        return
    file = voxel_file(path, fields)
    if file is None:
        return  # voxels in many files: ITK tells what is wrong with those
    start = header_bytes if file == path else 0
    if not file.is_file():
        raise UserError(f"{file}: not found, but {path} says that its voxels are there; put both into one folder.")
    unpacked_bytes(file, start, file.stat().st_size - start)


def voxel_file(path: Path, fields: Mapping[str, str]) -> Path | None:
    """Return the file that the voxels are in, which may be that of the header; None where they are in many files."""
    data = fields.get("data file", fields.get("datafile"))
    if data is None:
        return path
    return None if data.startswith("LIST") or "%" in data else path.parent / data


def read_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of an NRRD header, which ends with an empty line, in small letters, and its size in bytes."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(MOST_LINES):
            line = file.readline(LONGEST_LINE)
            if not line.strip():
                break
            key, colon, value = line.decode("latin-1").partition(":")
            if colon and not key.startswith("#"):
                fields[key.strip().lower()] = value.strip()
        return fields, file.tell()
