"""The layout of a CSV file: a line for each case with the columns case, image and label.

Optional columns: patient (default: the case), split (train, validation or val, test; default: train) and group. Paths
are relative to the folder of the CSV file. Only a test case may do without a label.
"""

import os
from pathlib import Path

from pipeline.dataset.cases import Case
from pipeline.dataset.files import check_case_name, check_there
from pipeline.dataset.rows import Row, check_once, read_rows
from pipeline.errors import UserError
from pipeline.formats.dispatch import EXPECTED, stem
from pipeline.log import log

REQUIRED = ("case", "image", "label")
OPTIONAL = ("patient", "split", "group")


def is_table(source: Path) -> bool:
    """True for a file that is called .csv, in letters of either size."""
    return source.is_file() and source.suffix.lower() == ".csv"


def find(path: Path) -> list[Case]:
    """Return the cases, in the order of their lines; at least one.

    Raises UserError with the line where a cell is not as it should be, a case or an image stands there twice, or a file
    is not there.
    """
    table = read_rows(path, REQUIRED, OPTIONAL)
    ignored = [name for name in table.columns if name and name not in (*REQUIRED, *OPTIONAL)]
    if ignored:
        log.info("%s: columns that mean nothing here: %s", path, ", ".join(ignored))
    cases = [case_of(row, path.parent) for row in table.rows]
    of_row = list(zip(cases, table.rows, strict=True))
    check_once((f"the case {case.name!r}", row) for case, row in of_row)
    check_once((f"the image {case.image}", row) for case, row in of_row)
    check_there([(row.where, file) for case, row in of_row for file in case.files().values()])
    return cases


def case_of(row: Row, folder: Path) -> Case:
    """Return the case of a line."""
    name, image, label = (row.cells[column] for column in REQUIRED)
    for column in ("case", "image"):
        if not row.cells[column]:
            raise UserError(f"{row.where}: {column} is empty; fill it in, or remove the line.")
    check_case_name(name, row.where)
    for column in ("image", "label"):
        if row.cells[column] and stem(Path(row.cells[column])) is None:
            raise UserError(f"{row.where}: {column} {row.cells[column]} is of no known format; expected {EXPECTED}.")
    split = row.split()
    if not label and split != "test":
        raise UserError(f"{row.where}: the case {name!r} has no label; fill it in, or set split to test.")
    return Case(
        name,
        folder / os.path.expanduser(image),
        folder / os.path.expanduser(label) if label else None,
        row.cells.get("patient") or name,
        split,
        row.cells.get("group", ""),
    )
