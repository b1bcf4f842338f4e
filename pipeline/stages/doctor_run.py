"""Say what is wrong with trainings, from what they wrote down; finished, running or ended by an error."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ExitCode
from pipeline.log import log, prose_table, table
from pipeline.monitor.checkup import TrainingCase
from pipeline.monitor.journal import Records
from pipeline.monitor.symptoms.cases import worst_cases
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.symptoms.window import later
from pipeline.monitor.watchdog import Noticed
from pipeline.stages.evidence import Evidence, complain, evidence_of
from pipeline.stages.runs import runs_in, standing_of

COLUMNS = ("what", "when", "evidence", "cure")


def run(folders: Sequence[Path]) -> ExitCode:
    """Print what is wrong with every training in some folders, see `runs.runs_under`.

    SOME_FAILED where anything was found, or an error ended one. One that has only begun is named and not judged.
    Raises UserError, once all others are told, where a folder has no training, and where one wrote nothing down of its
    health or what it wrote is damaged: nobody can then say that it is well.
    """
    runs, problems = runs_in(folders)
    sick: list[str] = []
    failed: list[str] = []
    damage: list[str] = []
    for folder in runs:
        evidence = evidence_of(folder)
        standing = standing_of(folder, evidence.written.records)
        log.info("%s: %s", folder, so_far(evidence) + standing.sentence)
        if standing.failed:
            failed.append(str(folder))
        if evidence.nothing:
            problems += [evidence.nothing] if evidence.step else []  # else it has only begun
            continue
        damage += evidence.damage
        noticed, standing_findings = evidence.diagnosis()
        if noticed:
            sick.append(str(folder))
            rows = rows_of(noticed, standing_findings, whole=not evidence.damage)
            prose_table(f"wrong with {folder}", COLUMNS, rows)
        show_worst(evidence.written.records)
    if sick:
        log.info("sick: %s", ", ".join(sick))
    complain(problems, damage)
    if not sick and not failed:
        log.info("nothing is wrong")
    return ExitCode.SOME_FAILED if sick or failed else ExitCode.DONE


def so_far(evidence: Evidence) -> str:
    """Return in words how far a training is, before how it stands."""
    if not evidence.step:
        return "no step yet; "
    validations = len(evidence.written.records.checkups)
    return f"step {evidence.step}, {validations} validation{'' if validations == 1 else 's'}, "


def rows_of(noticed: Sequence[Noticed], standing: Sequence[Finding], *, whole: bool) -> list[tuple[str, str, str, str]]:
    """Return what was found: its latest evidence where it still stands, else that of when it was found.

    whole: whether all records are there, so that the end is known.
    """
    latest = {finding.name: finding for finding in standing}
    rows = []
    for step, first in noticed:
        finding = latest.get(first.name, first)
        when = f"since step {step}" if first.name in latest else f"at step {step}{', not at the end' if whole else ''}"
        rows.append((finding.name, when, finding.evidence, finding.cure))
    return rows


def show_worst(records: Records) -> None:
    """Print the worst training cases of the later half of a run."""
    recent = later(records.checkups)
    if not recent:
        return
    first = max((checkup.step for checkup in records.checkups if checkup.step < recent[0].step), default=0) + 1
    steps = f"steps {first} to {recent[-1].step}"
    show_cases(f"training cases of highest loss in {steps}", worst_cases(records.checkups))
    show_cases(f"training cases of lowest Dice in {steps}", worst_cases(records.checkups, by="dice"))


def show_cases(title: str, cases: Sequence[tuple[str, TrainingCase]]) -> None:
    """Print what cases gave."""
    rows = [
        (name, case.patches, f"{case.loss:.4f}", "" if case.dice is None else f"{case.dice:.4f}")
        for name, case in cases
    ]
    table(title, ("case", "patches", "mean loss", "mean Dice"), rows)
