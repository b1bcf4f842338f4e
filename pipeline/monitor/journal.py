"""What a run writes down of its health, and reads again: a line of JSON a record, appended as it comes.

Numbers that are not finite are written as Python's JSON has them: NaN, Infinity.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline.errors import UserError
from pipeline.files import read_json, replacing, write_json
from pipeline.log import log
from pipeline.monitor.checkup import Checkup, TrainingCase
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.vitals import Vitals

VITALS, CHECKUPS, FACTS = "vitals.jsonl", "checkups.jsonl", "health.json"
EVERY_STEP_UNTIL = 100  # later only the steps that the log shows are written down


Record = TypeVar("Record", Vitals, Checkup)


class Records(NamedTuple):
    """What a run wrote down, in the order of steps."""

    vitals: list[Vitals]
    checkups: list[Checkup]


class Journal:
    """The records of one run in its folder; a resumed run forgets those that came after the saved step.

    after_checkup: the last validation that stands; one of the saved step may have to be made again. Records that
    cannot be read, as another version may have written them, are moved aside with a warning.
    """

    def __init__(self, folder: Path, facts: RunFacts, after_step: int = 0, after_checkup: int | None = None) -> None:
        self.folder = folder
        last = {VITALS: after_step, CHECKUPS: after_step if after_checkup is None else after_checkup}
        try:
            read_records(folder)
        except UserError as error:
            log.warning("%s It is moved aside, and the run's health is written anew.", error)
            for name in last:
                set_aside(folder / name)
        for name, end in last.items():
            kept = [text for step, text in whole_lines(folder / name) if step <= end]
            with replacing(folder / name) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")
        self.tell(facts)

    def tell(self, facts: RunFacts) -> None:
        """Write down what is known of the run."""
        write_json(self.folder / FACTS, asdict(facts))

    def add(self, record: Vitals | Checkup) -> None:
        """Append one record."""
        name = VITALS if isinstance(record, Vitals) else CHECKUPS
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")


def set_aside(path: Path) -> None:
    """Give a file that may be there another name beside it."""
    if path.exists():
        path.rename(path.with_stem(f"{path.stem}-before-{time.strftime('%Y%m%d-%H%M%S')}"))


def read_records(folder: Path) -> Records:
    """Return what a run has written so far; nothing of a run that has just begun.

    Raises UserError where a record is none that this version writes.
    """
    vitals = read_lines(folder / VITALS, vitals_from_json)
    return Records(vitals, read_lines(folder / CHECKUPS, checkup_from_json))


def read_facts(folder: Path) -> RunFacts:
    """Return what a run has written of itself. Raises UserError where there is nothing, or nothing that can be read."""
    if not (folder / FACTS).exists():
        raise UserError(
            f"{folder}: no {FACTS}, so this is no run, or one of an earlier version, which wrote nothing down of its "
            "health; expected the folder of a training, such as runs/demo/train/fold0."
        )
    found = read_json(folder / FACTS)
    try:
        return RunFacts(**{**found, "classes": tuple(found["classes"]), "targets": tuple(found["targets"])})
    except (KeyError, TypeError) as error:
        raise unreadable(folder / FACTS, error) from error


def whole_lines(path: Path) -> list[tuple[int, str]]:
    """Return step and text of the records of a file that may be missing, or be torn where a run was killed."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        lines = [line for line in file if line.endswith("\n")]
    return [(step, line) for line in lines if (step := step_of(line)) is not None]


def step_of(line: str) -> int | None:
    """Return the step of a record, None for what is none."""
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return None
    step = found.get("step") if isinstance(found, dict) else None
    return step if isinstance(step, int) else None


def read_lines(path: Path, make: Callable[[dict[str, Any]], Record]) -> list[Record]:
    """Return the records of a file."""
    try:
        return [make(json.loads(line)) for _, line in whole_lines(path)]
    except (KeyError, TypeError) as error:
        raise unreadable(path, error) from error


def vitals_from_json(found: dict[str, Any]) -> Vitals:
    """Return the vitals of a line."""
    rows = {name: tuple(found[name]) for name in ("cases", "losses", "strange_labels")}
    return Vitals(**{**found, **rows})


def checkup_from_json(found: dict[str, Any]) -> Checkup:
    """Return the checkup of a line."""
    training = {name: TrainingCase(**case) for name, case in found["training"].items()}
    return Checkup(**{**found, "training": training})


def unreadable(path: Path, error: Exception) -> UserError:
    """Return the error of a file that another version wrote."""
    return UserError(
        f"{path}: cannot be read ({type(error).__name__}: {error}); another version may have written it: use that one, "
        "or train again."
    )
