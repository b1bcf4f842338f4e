"""A CSV file with a line for each case, as people export it from a spreadsheet."""

import csv
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

from pipeline.dataset.cases import Split
from pipeline.errors import UserError

SEPARATORS = ",;\t"
SPLITS: dict[str, Split] = {
    "": "train", "train": "train", "val": "validation", "validation": "validation", "test": "test"
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The cells of a line by column, without spaces around them; "" where there is none."""

    path: Path
    line: int
    cells: dict[str, str]

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.path}, line {self.line}"

    def split(self) -> Split:
        """Return what the column `split` says; "train" where it says nothing."""
        given = self.cells.get("split", "")
        if given.lower() not in SPLITS:
            raise UserError(f"{self.where}: split is {given!r}; expected train, validation or test.")
        return SPLITS[given.lower()]


@dataclass(frozen=True)
class Rows:
    """A CSV file: its columns in lower case, in their order, and its lines that are not blank."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_rows(path: Path, required: Sequence[str], optional: Collection[str] = ()) -> Rows:
    """Read a CSV file with a head line; separated by commas, semicolons or tabs, in UTF-8 with or without a mark.

    required, optional: columns that are understood; others are read, too.
    Raises UserError with the line where the file is not as it should be, and where a required column is missing.
    """
    text = text_of(path)
    head = text.strip().partition("\n")[0]
    separator = max(SEPARATORS, key=head.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[Row] = []
    columns: tuple[str, ...] = ()
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            where = f"{path}, line {reader.line_num}"
            if not columns:
                columns = tuple(name.lower() for name in stripped)
                check_columns(columns, required, optional, where)
                continue
            if any(stripped[len(columns) :]):
                raise UserError(
                    f"{where}: {len(cells)} cells for {len(columns)} columns; quote a cell that holds {separator!r}."
                )
            padded = [*stripped, *[""] * len(columns)]
            rows.append(Row(path, reader.line_num, dict(zip(columns, padded, strict=False))))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: no CSV ({error}); mend the line.") from error
    if not rows:
        raise UserError(f"{path}: no line below the columns; expected {', '.join(required)} and a line for each case.")
    return Rows(columns, tuple(rows))


def check_once(named: Iterable[tuple[str, Row]]) -> None:
    """Raise UserError with both lines where one thing stands in two."""
    first: dict[str, Row] = {}
    for what, row in named:
        earlier = first.setdefault(what, row)
        if earlier is not row:
            raise UserError(f"{row.where}: {what} stands in line {earlier.line}, too; remove one of the lines.")


def text_of(path: Path) -> str:
    """Return a file's text, without the mark that spreadsheets put before it."""
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is a file you may read.") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text; save the file as CSV in UTF-8.") from error


def check_columns(columns: Sequence[str], required: Sequence[str], optional: Collection[str], where: str) -> None:
    """Raise UserError where a column is missing, stands there twice, or is nearly called as one that is understood."""
    missing = [name for name in required if name not in columns]
    if missing:
        raise UserError(
            f"{where}: no column {missing[0]!r} among {', '.join(columns)}; expected {', '.join(required)} and, if you "
            f"like, {', '.join(optional)}."
        )
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise UserError(f"{where}: two columns are called {twice[0]!r}; rename or remove one.")
    understood = (*required, *optional)
    for name in columns:
        close = get_close_matches(name, [known for known in understood if known not in columns], n=1, cutoff=0.8)
        if name not in understood and close:
            raise UserError(f"{where}: column {name!r}; did you mean {close[0]!r}? Rename it, or remove it.")
