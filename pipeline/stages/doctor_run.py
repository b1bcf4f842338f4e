"""Say what is wrong with trainings, from what they wrote down; finished, running or ended by an error."""

import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ExitCode, UserError
from pipeline.log import log, prose_table, table
from pipeline.monitor.checkup import TrainingCase
from pipeline.monitor.journal import VITALS, Records, read_facts, read_records
from pipeline.monitor.symptoms.cases import worst_cases
from pipeline.monitor.symptoms.window import later
from pipeline.monitor.watchdog import Watchdog

COLUMNS = ("what", "when", "evidence", "cure")


def run(folders: Sequence[Path]) -> ExitCode:
    """Print what is wrong with every training in some work folders; SOME_FAILED where anything was found in one.

    Raises UserError where a work folder has no training, or one that wrote nothing down of its health.
    """
    runs = [run for folder in folders for run in runs_of(folder)]
    read = [(folder, Watchdog(read_facts(folder)), read_records(folder)) for folder in runs]
    for folder, watchdog, records in read:
        watchdog.replay(*records)
        report(folder, watchdog, records)
    sick = [str(folder) for folder, watchdog, _ in read if watchdog.noticed]
    if sick:
        log.info("sick: %s", ", ".join(sick))
        return ExitCode.SOME_FAILED
    log.info("nothing is wrong")
    return ExitCode.DONE


def runs_of(work: Path) -> list[Path]:
    """Return the folders of the trainings in a work folder, by name, without those that were moved aside."""
    found = sorted(path.parent for path in work.glob("train/*/run.json") if "-before-" not in path.parent.name)
    if not found:
        raise UserError(
            f"{work}: no training; expected a work folder with train/fold0 or the like: run train, or give another one."
        )
    return found


def report(folder: Path, watchdog: Watchdog, records: Records) -> None:
    """Print how far a training is, what was found, and its worst cases."""
    log.info("%s: %s", folder, state(folder, records))
    if watchdog.noticed:
        prose_table(f"wrong with {folder}", COLUMNS, rows_of(watchdog))
    recent = later(records.checkups)
    if not recent:
        return
    first = max((checkup.step for checkup in records.checkups if checkup.step < recent[0].step), default=0) + 1
    steps = f"steps {first} to {recent[-1].step}"
    show_cases(f"training cases of highest loss in {steps}", worst_cases(records.checkups))
    show_cases(f"training cases of lowest Dice in {steps}", worst_cases(records.checkups, by="dice"))


def state(folder: Path, records: Records) -> str:
    """Return in words how far a training is."""
    if not records.vitals:
        return "no step yet"
    validations = len(records.checkups)
    so_far = f"step {records.vitals[-1].step}, {validations} validation{'' if validations == 1 else 's'}"
    if (folder / "done.json").exists():
        return f"{so_far}, finished"
    silent_s = max(0.0, time.time() - (folder / VITALS).stat().st_mtime)
    return f"{so_far}, not finished; last record {in_words(silent_s)} ago"


def in_words(seconds: float) -> str:
    """Return a time in one unit."""
    for size_s, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def rows_of(watchdog: Watchdog) -> list[tuple[str, str, str, str]]:
    """Return what was found: its latest evidence where it still stands, else that of when it was found."""
    standing = {finding.name: finding for finding in watchdog.standing}
    rows = []
    for step, first in watchdog.noticed:
        finding = standing.get(first.name, first)
        when = f"since step {step}" if first.name in standing else f"at step {step}, not at the end"
        rows.append((finding.name, when, finding.evidence, finding.cure))
    return rows


def show_cases(title: str, cases: Sequence[tuple[str, TrainingCase]]) -> None:
    """Print what cases gave."""
    rows = [
        (name, case.patches, f"{case.loss:.4f}", "" if case.dice is None else f"{case.dice:.4f}")
        for name, case in cases
    ]
    table(title, ("case", "patches", "mean loss", "mean Dice"), rows)
