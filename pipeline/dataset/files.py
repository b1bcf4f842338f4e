"""Files that a list names, and names that cases may have."""

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError

UNFIT_FOR_A_FILE = re.compile(r"^$|^\.|[/\\\x00-\x1f]")


def check_there(files: Sequence[tuple[str, Path]]) -> None:
    """Raise UserError with the first of (where it is named, file) that is no file on disk, and how many there are."""
    missing = [(where, path) for where, path in files if not path.is_file()]
    if missing:
        where, path = missing[0]
        what = "is a folder, expected a file" if path.is_dir() else "not found"
        raise UserError(
            f"{where}: {path} {what} ({len(missing)} of {len(files)} files are missing); check the paths, which are "
            "relative to the folder of the list."
        )


def check_case_name(name: str, where: str) -> None:
    """Raise UserError where a case cannot give its name to a file."""
    if UNFIT_FOR_A_FILE.search(name):
        raise UserError(
            f"{where}: no file can be called {name!r}, as those of a case are; give the case a name that does not "
            "begin with a dot and has no slash or control character."
        )
