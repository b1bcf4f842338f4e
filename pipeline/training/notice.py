"""How long before it kills a run a scheduler must ask it to stop: a run that is asked finishes what it is at."""

import time
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pipeline.log import log

FILE = "notice.json"
MARGIN_S = 10.0  # to note the signal, save the state and leave
GROWN = 1.25  # times longer than was told, before it is told again


class Notice:
    """The longest single operation of a run so far, told and written to `notice.json` in its folder as it grows.

    What earlier attempts took counts. folder: None on all ranks but the first, whose operations last until the slowest
    rank is done. check: called before the file is written; it may raise.
    """

    def __init__(self, folder: Path | None, check: Callable[[], None] = lambda: None) -> None:
        self.path = folder and folder / FILE
        self.check = check
        self.told_s = told_before(self.path) if self.path else 0.0

    def took(self, what: str, seconds: float) -> None:
        """Take an operation into account. what: in words, such as "a step"."""
        if self.path is None or seconds < max(GROWN * self.told_s, 1.0):
            return
        self.check()
        self.told_s = seconds
        needed_s = ceil(MARGIN_S + seconds)
        write_json(self.path, {"operation": what, "seconds": round(seconds, 3), "notice_s": needed_s})
        log.info(
            "longest operation so far: %s, %.3g s; a scheduler must ask %d s before it kills", what, seconds, needed_s
        )

    def laps(self, what: str) -> Callable[[], None]:
        """Return what takes an operation into account that began when this, or what is returned, was called last."""
        began = time.perf_counter()

        def lap() -> None:
            nonlocal began
            before, began = began, time.perf_counter()
            self.took(what, began - before)

        return lap


def told_before(path: Path) -> float:
    """Return the seconds that an earlier attempt has written, 0 where there is none that can be read."""
    try:
        found: Any = read_json(path)["seconds"]
        return float(found)
    except (UserError, KeyError, TypeError, ValueError):
        return 0.0
