"""Trainings in folders, and how each stands: finished, going on, interrupted, or ended by an error."""

import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipeline.errors import UserError
from pipeline.monitor.journal import CHECKUPS, FACTS, VITALS, Records, read_facts
from pipeline.monitor.vitals import Vitals
from pipeline.training import scored_cases
from pipeline.training.ending import read_ending
from pipeline.training.identity import keys_of
from pipeline.training.owner import is_alive
from pipeline.work import DONE, RUN, STATE

LEFT_BY_RUNS = (RUN, FACTS, VITALS, CHECKUPS, DONE)
FOLDS = r"fold\d+|all"
DEEPEST = 3  # folders between one that is given and a work folder
# A run on another machine that wrote nothing for longer than each of these has stopped, as far as can be told.
SILENT_S = 300.0
SILENT_STEPS = 20
SILENT_RECORDS = 3  # times the steps between two records
SILENT_VALIDATION_S = 3600.0  # where one is due: it writes nothing before it has scored a case
FAILED = "ended by an error"
GOES_ON = "the same command goes on"


@dataclass(frozen=True)
class Standing:
    """How a training stands.

    word: for a table; sentence: the whole of it. running: whether it seems to go on. failed: whether an error ended it.
    """

    word: str
    sentence: str
    running: bool = False
    failed: bool = False


def runs_in(folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the trainings in folders, see `runs_under`, each once, and a sentence for each folder that has none."""
    found: list[Path] = []
    problems: list[str] = []
    for folder in folders:
        try:
            found += runs_under(folder)
        except UserError as error:
            problems.append(str(error))
    return list({run.resolve(): run for run in reversed(found)}.values())[::-1], problems


def runs_under(folder: Path) -> list[Path]:
    """Return the folders of trainings, by name, without those moved aside.

    folder: a work folder or some levels above; also its `train`, or a training itself. A training that has only made
    its folder is one. Raises UserError where there is none.
    """
    if not folder.exists():
        raise UserError(f"{folder}: there is nothing; expected a work folder, such as runs/demo, or a config file.")
    found = {run for run in candidates(folder) if is_run(run)}
    if not found:
        raise UserError(
            f"{folder}: no training, nor in the folders below; expected a work folder with train/fold0 or the like, or "
            "a folder that has some: run train, or give another one."
        )
    return sorted(found)


def candidates(folder: Path) -> Iterator[Path]:
    """Yield the folders that may be trainings by where they are."""
    place = folder.resolve()
    if place.parent.name == "train":
        yield folder
    if place.name == "train":
        yield from folder.glob("*")
    for depth in range(DEEPEST + 1):
        yield from folder.glob("*/" * depth + "train/*")


def is_run(folder: Path) -> bool:
    """Return whether a folder is a training: by what it holds, or by its name where it is still empty."""
    if not folder.is_dir() or "-before-" in folder.name:
        return False
    if any((folder / name).exists() for name in LEFT_BY_RUNS):
        return True
    return re.fullmatch(FOLDS, folder.resolve().name) is not None and not any(folder.iterdir())


def standing_of(run: Path, records: Records) -> Standing:
    """Return how a training stands: by its process where that is known, else by how long it has been silent."""
    if (run / DONE).exists():
        return Standing("done", "finished")
    ending = read_ending(run)
    if ending is not None:
        if ending.by == "error":
            return Standing(FAILED, f"{FAILED}: {ending.why}", failed=True)
        return Standing("interrupted", f"interrupted; {GOES_ON}")
    alive = is_alive(run)
    if not alive and records.vitals and records.vitals[-1].ended:
        return Standing(FAILED, f"{FAILED} in step {records.vitals[-1].step}", failed=True)
    if alive is False:
        return Standing("killed", f"its process is gone without a word, as after a kill; {GOES_ON}")
    silent_s = silence_s(run, records)
    sentence = f"{'not finished; last record' if records.vitals else 'begun'} {in_words(silent_s)} ago"
    if alive or silent_s < longest_silence_s(run, records):
        return Standing("running" if records.vitals or alive else "begun", sentence, running=True)
    return Standing(f"silent for {in_clock(silent_s)}", sentence)


def silence_s(run: Path, records: Records) -> float:
    """Return the seconds since a training last wrote a record or scores of a case, or else since it began."""
    names = (VITALS, CHECKUPS) if records.checkups else (VITALS,)
    times = []
    for path in [*(run / name for name in names), *(run / STATE).glob(f"*/{scored_cases.FILE}")]:
        with suppress(FileNotFoundError):  # the second kind is removed while a run goes on
            times.append(path.stat().st_mtime)
    begun = run / RUN if (run / RUN).exists() else run
    return max(0.0, time.time() - max(times or [begun.stat().st_mtime]))


def longest_silence_s(run: Path, records: Records) -> float:
    """Return the seconds for which a training that goes on may write nothing."""
    if not records.vitals:
        return SILENT_S
    last, apart = records.vitals[-1], steps_apart(records.vitals)
    validation_s = SILENT_VALIDATION_S if last.step + apart >= next_validation(run, records) else 0.0
    return max(SILENT_S, max(SILENT_STEPS, SILENT_RECORDS * apart) * last.step_s, validation_s)


def steps_apart(vitals: Sequence[Vitals]) -> int:
    """Return the most steps between the last records; vitals: at least one.

    Up to step 100 there is a record a step, and only steps that are logged have what is measured now and then: between
    those lies what will lie between all.
    """
    measured = [record.step for record in vitals if record.image_std is not None][-SILENT_RECORDS:]
    return max((later - earlier for earlier, later in pairwise([*measured, vitals[-1].step])), default=1)


def next_validation(run: Path, records: Records) -> float:
    """Return the step after which a training validates next, infinity where that is not known."""
    try:
        every = keys_of(run / RUN)["train.validate_every_steps"]
        end = read_facts(run).steps
    except (UserError, KeyError, TypeError):
        return math.inf
    before = records.checkups[-1].step if records.checkups else 0
    due = (before // every + 1) * every
    return due if end is None else min(due, end)


def in_words(seconds: float) -> str:
    """Return a time in one unit."""
    for size_s, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def in_clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{left:02d}"
