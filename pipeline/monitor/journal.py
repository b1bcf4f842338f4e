"""What a run writes down of its health, and reads again: a line of JSON a record, appended as it comes.

Numbers that are not finite are written as Python's JSON has them: NaN, Infinity. With hundreds of classes a figure for
each would be most of a record, in a file that every look reads whole: see `line_of`. So would be what every training
case gave in every validation: see `thinned`.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline.errors import UserError
from pipeline.files import replacing, write_json
from pipeline.log import listed, log
from pipeline.monitor.checkup import Checkup, TrainingCase
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms.diagnose import FIRST_STEPS
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.symptoms.window import LATEST
from pipeline.monitor.vitals import Vitals
from pipeline.monitor.watchdog import Noticed

VITALS, CHECKUPS, FINDINGS, FACTS = "vitals.jsonl", "checkups.jsonl", "findings.jsonl", "health.json"
EVERY_STEP_UNTIL = 100  # later only the steps that the log shows are written down
FIGURES = ("loss", "lr", "grad_norm", "logits_min", "logits_max", "wait_s", "step_s")


Record = TypeVar("Record", Vitals, Checkup, Noticed)


class Records(NamedTuple):
    """What a run wrote down, in the order of steps."""

    vitals: list[Vitals]
    checkups: list[Checkup]


class Written(NamedTuple):
    """All that a journal holds. noticed: what the run found as it went. damage: a sentence for each damaged file."""

    records: Records
    noticed: list[Noticed]
    damage: list[str]


class Journal:
    """The records of one run in its folder; a resumed run forgets those that came after the saved step.

    after_checkup: the last validation that stands; one of the saved step may have to be made again, and what it found
    is then found again. A file with records that cannot be read, as another version may have written them, is moved
    aside with a warning, and what could be read of it is kept.
    """

    def __init__(self, folder: Path, facts: RunFacts, after_step: int = 0, after_checkup: int | None = None) -> None:
        self.folder = folder
        self.whole_checkups = 0
        self.noted: set[str] = set()
        ends = (after_step, after_step if after_checkup is None else after_checkup)
        for name, make in MAKERS.items():
            records, damage = read_lines(folder / name, make)
            if damage:
                aside = set_aside(folder / name)
                log.warning("%s It is now %s, and the run goes on without these records.", damage, aside)
            kept = [record for record in records if record.step <= ends[is_of_checkup(record)]]
            self.noted |= {record.finding.name for record in kept if isinstance(record, Noticed)}
            self._write(name, kept)
        self.tell(facts)

    def tell(self, facts: RunFacts) -> None:
        """Write down what is known of the run."""
        write_json(self.folder / FACTS, asdict(facts))

    def note(self, step: int, findings: Sequence[Finding]) -> None:
        """Append what was found at a step, each disease once, which then outlives the records that it was found in."""
        for finding in findings:
            if finding.name in self.noted:
                continue
            self.noted.add(finding.name)
            self._append(FINDINGS, Noticed(step, finding))

    def add(self, record: Vitals | Checkup) -> None:
        """Append one record."""
        if isinstance(record, Vitals):
            self._append(VITALS, record)
            return
        self._append(CHECKUPS, record)
        self.whole_checkups += 1
        if self.whole_checkups >= 2 * LATEST:
            checkups, damage = read_lines(self.folder / CHECKUPS, checkup_from_json)
            if not damage:
                self._write(CHECKUPS, checkups)

    def _append(self, name: str, record: Vitals | Checkup | Noticed) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(line_of(record))

    def _write(self, name: str, records: Sequence[Any]) -> None:
        """Write a file anew, of checkups what is still looked at."""
        if name == CHECKUPS:
            records = thinned(records)
            self.whole_checkups = min(len(records), LATEST)
        with replacing(self.folder / name) as temporary:
            temporary.write_text("".join(map(line_of, records)), encoding="utf-8")


def is_of_checkup(record: Vitals | Checkup | Noticed) -> bool:
    """Say whether a record is a checkup, or was found by one.

    The rules of steps are asked at a validation, too; what they find in it the vitals tell without it.
    """
    if isinstance(record, Noticed):
        return record.finding.name not in FIRST_STEPS
    return isinstance(record, Checkup)


def line_of(record: Vitals | Checkup | Noticed) -> str:
    """Return the line of a record: all of a checkup, and of vitals what rules look at.

    Of classes that were drawn these alone; what was predicted of each is on the board, and in the next checkup for all
    patches together.
    """
    if isinstance(record, Noticed):
        return json.dumps({"step": record.step, **asdict(record.finding)}) + "\n"
    written = asdict(record)
    if isinstance(record, Vitals):
        written["drawn"] = {name: count for name, count in record.drawn.items() if count}
        del written["predicted"], written["dice"]
    return json.dumps(written) + "\n"


def thinned(checkups: Sequence[Checkup]) -> list[Checkup]:
    """Return checkups with the training cases of the last ones only, as rules and looks pool no more (`later`).

    Else their file would grow with the number of cases times that of validations: 30 MB in 100,000 steps.
    """
    return [*(replace(checkup, training={}) for checkup in checkups[:-LATEST]), *checkups[-LATEST:]]


def set_aside(path: Path) -> Path:
    """Give a file another name beside it, and return that."""
    return path.rename(path.with_stem(f"{path.stem}-before-{time.strftime('%Y%m%d-%H%M%S')}"))


def read_records(folder: Path) -> Records:
    """Return what can be read of what a run has written so far; nothing of a run that has just begun."""
    return read_journal(folder).records


def read_journal(folder: Path) -> Written:
    """Return all that a run has written so far, and what of it cannot be read; nothing of one that has just begun."""
    vitals, vitals_damage = read_lines(folder / VITALS, vitals_from_json)
    checkups, checkups_damage = read_lines(folder / CHECKUPS, checkup_from_json)
    noticed, noticed_damage = read_lines(folder / FINDINGS, noticed_from_json)
    damage = [sentence for sentence in (vitals_damage, checkups_damage, noticed_damage) if sentence]
    return Written(Records(vitals, checkups), noticed, damage)


def read_facts(folder: Path) -> RunFacts:
    """Return what a run has written of itself. Raises UserError where there is nothing, or nothing that can be read."""
    path = folder / FACTS
    if not path.exists():
        raise UserError(
            f"{folder}: no {FACTS}, so this is no run, or one of an earlier version, which wrote nothing down of its "
            "health; expected the folder of a training, such as runs/demo/train/fold0."
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return RunFacts(**{**found, "classes": tuple(found["classes"]), "targets": tuple(found["targets"])})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); it is damaged, or another version wrote it."
        ) from error


def read_lines(path: Path, make: Callable[[dict[str, Any]], Record]) -> tuple[list[Record], str]:
    """Return the records of a file that may be missing, and a sentence on lines that are none; "" where all are.

    The last line may be torn where a run was killed: it is left out, and nothing is said of it.
    """
    if not path.exists():
        return [], ""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        lines = [line for line in file if line.endswith("\n")]
    records: list[Record] = []
    errors: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        try:
            records.append(make(json.loads(line)))
        except json.JSONDecodeError:
            if number < len(lines):
                errors[number] = "not JSON"
        except (KeyError, TypeError, AttributeError) as error:
            errors[number] = f"{type(error).__name__}: {error}"
    return records, unreadable(path, errors, len(lines)) if errors else ""


def vitals_from_json(found: dict[str, Any]) -> Vitals:
    """Return the vitals of a line; an earlier version wrote down what was predicted, too."""
    rows = {name: tuple(found[name]) for name in ("cases", "losses", "strange_labels")}
    for name in FIGURES:
        if not isinstance(found[name], int | float):
            raise TypeError(f"{name} is {found[name]!r}")
    return Vitals(**{"predicted": {}, **found, **rows, "step": counted(found)})


def checkup_from_json(found: dict[str, Any]) -> Checkup:
    """Return the checkup of a line."""
    training = {name: TrainingCase(**case) for name, case in found["training"].items()}
    return Checkup(**{**found, "training": training, "step": counted(found)})


def noticed_from_json(found: dict[str, Any]) -> Noticed:
    """Return what was found, of a line."""
    return Noticed(counted(found), Finding(**{name: value for name, value in found.items() if name != "step"}))


MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    VITALS: vitals_from_json, CHECKUPS: checkup_from_json, FINDINGS: noticed_from_json,
}  # fmt: skip


def counted(found: dict[str, Any]) -> int:
    """Return the step of a record. Raises TypeError where it is no number."""
    step = found["step"]
    if not isinstance(step, int):
        raise TypeError(f"step is {step!r}")
    return step


def unreadable(path: Path, errors: dict[int, str], lines: int) -> str:
    """Return the sentence on lines that cannot be read. errors: what is wrong, by the number of the line."""
    which = f"line {next(iter(errors))}" if len(errors) == 1 else f"lines {listed(map(str, errors))}"
    return (
        f"{path}: {which} of {lines} cannot be read ({next(iter(errors.values()))}); the file is damaged, or another "
        "version wrote it."
    )
