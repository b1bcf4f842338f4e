"""What a training wrote down of its health, and whether that is whole: judged by what else it left."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.log import listed
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.journal import CHECKUPS, EVERY_STEP_UNTIL, FACTS, VITALS, Written, read_facts, read_journal
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.table import read_rows
from pipeline.monitor.watchdog import Noticed, Watchdog
from pipeline.work import DONE

CURE = (
    "What is gone cannot be made again: put the files back from a copy if there is one. The training and its model do "
    "not need them."
)


class Expected(NamedTuple):
    """Steps that must have a record, of vitals and of validations, and the furthest step that is known of."""

    vitals: list[int]
    checkups: list[int]
    furthest: int


class Evidence(NamedTuple):
    """What a training left of its health.

    facts: None where they are missing or cannot be read. step: how far the training is. damage: a sentence for all that
    is not as it should be; what to do is CURE. rows: of train.csv. nothing: the sentence where nothing was written
    down, as by an earlier version.
    """

    facts: RunFacts | None
    written: Written
    step: int
    damage: list[str]
    rows: list[dict[str, str]]
    nothing: str = ""

    def diagnosis(self) -> tuple[list[Noticed], list[Finding]]:
        """Return what was found and when, each disease once, and what still stands at the end.

        By the rules as they are now, and what the training itself found while it went on.
        """
        found = {noticed.finding.name: noticed for noticed in reversed(self.written.noticed)}
        if self.facts is None:
            return sorted(found.values(), key=attrgetter("step")), []
        watchdog = Watchdog(self.facts)
        watchdog.replay(*self.written.records)
        watchdog.look_at_end()
        for noticed in watchdog.noticed:
            name = noticed.finding.name
            found[name] = min(found.get(name, noticed), noticed, key=attrgetter("step"))
        return sorted(found.values(), key=attrgetter("step")), watchdog.standing


def evidence_of(run: Path) -> Evidence:
    """Read what a training wrote down, and compare it with what its table, its end and its states tell of."""
    rows = read_rows(run / "train.csv")
    expected = expected_of(run, rows)  # first, as a training that goes on writes its records before its table
    written = read_journal(run)
    vitals, checkups = written.records
    step = max(expected.furthest, vitals[-1].step if vitals else 0)
    damage = [
        *written.damage,
        *missing(run / VITALS, expected.vitals, (record.step for record in vitals)),
        *missing(run / CHECKUPS, expected.checkups, (record.step for record in checkups)),
    ]
    facts = None
    try:
        facts = read_facts(run)
    except UserError as error:
        if not (run / FACTS).exists() and not (run / VITALS).exists():
            return Evidence(None, written, step, [], rows, nothing=str(error))
        gone = f"{run / FACTS}: not found, though other records of this training are there."
        damage.insert(0, str(error) if (run / FACTS).exists() else gone)
    return Evidence(facts, written, step, damage, rows)


def complain(problems: Sequence[str], damage: Sequence[str]) -> None:
    """Raise UserError where there are problems, or records are damaged."""
    sentences = [*problems, *([*damage, CURE] if damage else [])]
    if sentences:
        raise UserError(" ".join(sentences))


def expected_of(run: Path, rows: Sequence[dict[str, str]]) -> Expected:
    """Return the steps that must have a record, from train.csv, done.json and the names of the saved states."""
    shown = {int(row["step"]) for row in rows if row.get("loss")}
    validated = [int(row["step"]) for row in rows if not row.get("loss")]
    end = last_step(run)
    saved = [int(path.name[5:]) for path in run.glob("state/step-*") if path.name[5:].isdigit()]
    furthest = max([*shown, *saved, end or 0])
    vitals = shown | set(range(1, min(EVERY_STEP_UNTIL, furthest) + 1))
    # A row is written just before its record: that of the last validation may have been on its way.
    checkups = set(validated[:-1]) if end is None else {*validated, end} - {0}
    return Expected(sorted(vitals), sorted(checkups), furthest)


def last_step(run: Path) -> int | None:
    """Return the step after which a training finished, 0 where that cannot be read, None where it has not finished."""
    if not (run / DONE).exists():
        return None
    try:
        step = read_json(run / DONE)["step"]
    except (UserError, KeyError, TypeError):
        return 0
    return step if isinstance(step, int) else 0


def missing(path: Path, expected: list[int], found: Iterable[int]) -> list[str]:
    """Return a sentence where steps that were expected, in order, have no record; else none."""
    there = set(found)
    gaps: list[list[int]] = []
    before_is_there = True
    for step in expected:
        if step not in there and before_is_there:
            gaps.append([])
        before_is_there = step in there
        if not before_is_there:
            gaps[-1].append(step)
    if not gaps:
        return []
    steps = listed(f"{gap[0]} to {gap[-1]}" if len(gap) > 1 else f"{gap[0]}" for gap in gaps)
    return [f"{path}: {sum(map(len, gaps))} of {len(expected)} records are missing, of step {steps}."]
