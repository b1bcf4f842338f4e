"""What a validation has scored so far, in a file beside the state that it is of: an interrupted one goes on there."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import hash_json, read_json, remove, write_json
from pipeline.log import listed, log

FILE = "validation.json"
FORMAT_VERSION = 1
EVERY_S = 5.0  # of a validation, which is what a kill without notice may cost it beside the cases under way


class ScoredCases:
    """What is known of cases by name, JSON values.

    state: the folder of the state that is validated, where the file lies; None on all ranks but the first. A file that
    was altered is not believed, and one that cannot be written costs no more than the time to score again.
    digest: of the state's tensors; a file that tells of others is not read. check: called before the file is written;
    it may raise.
    """

    def __init__(self, state: Path | None = None, digest: str = "", check: Callable[[], None] = lambda: None) -> None:
        self.path, self.digest, self.check = state and state / FILE, digest, check
        self.cases: dict[str, Any] = self._kept(self.path) if self.path and self.path.exists() else {}
        self.written, self.written_at = len(self.cases), time.monotonic()

    def _kept(self, path: Path) -> dict[str, Any]:
        try:
            found = read_json(path)
            told = (found["format_version"], found["tensors_sha256"], found["hash"])
            if told != (FORMAT_VERSION, self.digest, hash_json(found["cases"])):
                raise UserError(f"{path}: altered, or of another state or version.")
        except (UserError, OSError, KeyError, TypeError) as error:
            log.warning("the validation begins anew, as what is kept of it cannot be read (%s)", error)
            return {}
        cases: dict[str, Any] = found["cases"]
        log.info("the validation goes on; scored before: %s", listed(cases))
        return cases

    def add(self, cases: dict[str, Any]) -> None:
        """Take in what is known of more cases."""
        self.cases |= cases
        if time.monotonic() - self.written_at >= EVERY_S:
            self.write()

    def write(self) -> None:
        """Write down what is not written yet."""
        if self.path is None or self.written == len(self.cases):
            return
        self.check()
        told = {"format_version": FORMAT_VERSION, "tensors_sha256": self.digest}
        told |= {"hash": hash_json(self.cases), "cases": self.cases}
        try:
            write_json(self.path, told)
        except OSError as error:
            log.warning("%s: not written, so that these cases are scored again after an interruption (%s)",
                        self.path, error)  # fmt: skip
        self.written, self.written_at = len(self.cases), time.monotonic()

    def remove(self) -> None:
        """Remove the file, once what the validation has found is in the state."""
        if self.path:
            remove(self.path)
