"""train.csv: the points of every curve (see `curves`), a row a logged step and a row a validation."""

import csv
from collections.abc import Mapping
from pathlib import Path

from pipeline.files import replacing
from pipeline.log import log


class Table:
    """A CSV file that grows by a row at a time and, on a resume, forgets what came after the saved step.

    after_score: the last validation that stands; one of the saved step may have to be made again.
    """

    def __init__(self, path: Path, columns: list[str], after_step: int = 0, after_score: int | None = None) -> None:
        self.path = path
        self.columns = columns
        ends = (after_step, after_step if after_score is None else after_score)
        kept = [row for row in read_rows(path) if int(row["step"]) <= ends[not row.get("loss")]]
        if after_step and not any(row.get("loss") for row in kept):
            log.warning("%s: the rows of the run so far are gone; it goes on without them", path)
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def add(self, row: Mapping[str, float | int]) -> None:
        """Append one row; columns that it lacks stay empty. Raises ValueError for one that the table lacks."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a table that may be missing, be damaged, or end in the middle of a line."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:  # a broken disk must not hide the rest
        whole = [line for line in file if line.endswith("\n") and "\0" not in line]
    return [row for row in csv.DictReader(whole) if (row.get("step") or "").isdigit() and None not in row.values()]
