"""How long before it kills a run a scheduler must ask it to stop: a run that is asked finishes what it is at."""

from math import ceil
from pathlib import Path

from pipeline.files import write_json
from pipeline.log import log

FILE = "notice.json"
MARGIN_S = 10.0  # to note the signal, save the state and leave
GROWN = 1.25  # times longer than was told, before it is told again


class Notice:
    """The longest single operation of a run so far, told and written to `notice.json` in its folder as it grows."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.told_s = 0.0

    def took(self, what: str, seconds: float) -> None:
        """Take an operation into account. what: in words, such as "a step"."""
        if seconds < max(GROWN * self.told_s, 1.0):
            return
        self.told_s = seconds
        needed_s = ceil(MARGIN_S + seconds)
        write_json(self.path, {"operation": what, "seconds": round(seconds, 3), "notice_s": needed_s})
        log.info(
            "longest operation so far: %s, %.3g s; a scheduler must ask %d s before it kills", what, seconds, needed_s
        )
