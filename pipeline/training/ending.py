"""How a run that did not finish came to its end: a small file, so that nobody takes it for one that goes on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import Interrupted, Superseded, UserError, explain
from pipeline.files import read_json, remove, write_json
from pipeline.training import owner
from pipeline.training.distributed import is_lost

FILE = "ended.json"


@dataclass(frozen=True)
class Ending:
    """by: an error, or a request to stop, which has saved the state. why: a sentence."""

    by: Literal["error", "request"]
    why: str


@contextmanager
def ending_told(folder: Path | None) -> Iterator[None]:
    """Write down in a run's folder how what is done within `with` ended, unless it went well; None writes nothing.

    What an earlier process wrote is removed. Where another process has taken the run over, that one's word counts.
    """
    if folder is None:
        yield
        return
    remove(folder / FILE)
    before = _owner_of(folder)
    try:
        yield
    except BaseException as error:
        mine = folder.is_dir() and _owner_of(folder) in (before, os.getpid())
        if mine and not isinstance(error, Superseded):
            with suppress(OSError):  # a full disk must not hide why the run ended
                write_json(folder / FILE, asdict(_ending_by(error)))
        raise


def read_ending(folder: Path) -> Ending | None:
    """Return how a run ended; None where it finished, goes on, or was killed before it could say."""
    try:
        return Ending(**read_json(folder / FILE))
    except (UserError, TypeError):
        return None


def _ending_by(error: BaseException) -> Ending:
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return Ending("request", str(error))
    if isinstance(error, UserError):
        return Ending("error", str(error))
    if is_lost(error):
        return Ending("error", "another process of this run has ended, and what it said tells why")
    return Ending("error", explain(error) or f"{type(error).__name__}: {error}")


def _owner_of(folder: Path) -> Any:
    """Return the id of the process that has a run, None where nobody has."""
    try:
        return read_json(folder / owner.FILE).get("process")
    except (UserError, AttributeError):
        return None
