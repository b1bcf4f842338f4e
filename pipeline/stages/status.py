"""List trainings: how far each is, how well it scores, how fast it is, how long still, and whether it is sick."""

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from pipeline.config.config import Config
from pipeline.errors import ExitCode, UserError
from pipeline.log import answer, log, table
from pipeline.stages.evidence import Evidence, complain, evidence_of
from pipeline.stages.runs import Standing, in_clock, runs_in, standing_of
from pipeline.training.identity import keys_of
from pipeline.work import RUN

STRANGE = (TypeError, ValueError, KeyError, AttributeError)  # of records that others wrote
COLUMNS = ("training", "state", "step", "best Dice", "patches/s", "left", "health")


def run(config: Config, folders: Sequence[Path] = ()) -> ExitCode:
    """Print a line for each training in work folders, or in folders that hold some; by default in the config's.

    What ended one by an error is told below. Raises UserError, once all others are listed, where a folder has none, and
    where what one wrote down of its health is damaged.
    """
    runs, problems = runs_in(folders or [config.work])
    lines, failed = [], []
    damage: list[str] = []
    for folder in runs:
        evidence = evidence_of(folder)
        damage += evidence.damage
        try:
            cells, standing = line_of(folder, evidence)
        except STRANGE as error:
            lines.append([str(folder), *[""] * (len(COLUMNS) - 2), "records damaged"])
            damage.append(f"{folder}: its records cannot be read ({type(error).__name__}: {error}); restore them.")
            continue
        lines.append(cells)
        if standing.failed:
            failed.append(f"{folder} {standing.sentence}")
    if runs:
        table("trainings", COLUMNS, lines)
    for sentence in failed:
        answer(sentence)
    complain(problems, damage)
    return ExitCode.DONE


def line_of(run: Path, evidence: Evidence) -> tuple[list[str], Standing]:
    """Return the cells of a training, what it has not written being left empty, and how it stands."""
    steps = [row for row in evidence.rows if row.get("loss")]
    scores = [(float(row["dice"]), int(row["step"])) for row in evidence.rows if row.get("dice")]
    done = int(steps[-1]["step"]) if steps else 0
    speed = float(steps[-1]["patches_per_second"]) if steps else None
    length, batch = length_and_batch(run, evidence)
    best = max(scores, key=itemgetter(0), default=None)  # of equal ones the first, which training keeps
    standing = standing_of(run, evidence.written.records)
    left_s = (length - done) * batch / speed if length and batch and speed and standing.running else None
    cells = [
        str(run),
        standing.word,
        f"{done}/{length}" if length else str(done),
        f"{best[0]:.4f} at {best[1]}" if best else "",
        f"{speed:.3g}" if speed else "",
        "" if left_s is None else in_clock(left_s),
        health_of(evidence),
    ]
    return cells, standing


def length_and_batch(run: Path, evidence: Evidence) -> tuple[int | None, int | None]:
    """Return the steps of a training, where they are known, and the patches of each."""
    try:
        keys = keys_of(run / RUN)
        planned = None if keys["train.minutes"] else keys["train.steps"]
        return evidence.facts.steps if evidence.facts else planned, keys["sample.batch"]
    except (UserError, KeyError, TypeError) as error:
        log.debug("%s: %s", run, error)
        return None, None


def health_of(evidence: Evidence) -> str:
    """Return the names of what is wrong, as `doctor run` finds it; empty where the training wrote nothing down."""
    names = [noticed.finding.name for noticed in evidence.diagnosis()[0]]
    if evidence.damage:
        names.append("records damaged")
    return "; ".join(names) or ("well" if evidence.written.records.vitals else "")
