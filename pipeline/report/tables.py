"""Tables for people and for spreadsheets."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.files import replacing


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV (UTF-8, one head line, comma, None as an empty cell), atomically."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def cell(value: float | None, digits: int) -> str:
    """Return a number with so many decimals, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
