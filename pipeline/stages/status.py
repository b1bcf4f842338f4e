"""List trainings: how far each is, how well it scores, how fast it is, how long still, and whether it is sick."""

import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.config import Config
from pipeline.errors import ExitCode, UserError
from pipeline.files import read_json
from pipeline.log import log, table
from pipeline.monitor.journal import VITALS, read_facts, read_records
from pipeline.monitor.table import read_rows
from pipeline.monitor.watchdog import Watchdog

COLUMNS = ("training", "state", "step", "best Dice", "patches/s", "left", "health")
DEEPEST = 3  # folders between one that is given and a work folder
SILENT_S = 300.0  # a run that wrote nothing for longer, and for longer than twenty of its steps, has stopped
SILENT_STEPS = 20


def run(config: Config, folders: Sequence[Path] = ()) -> ExitCode:
    """Print a line for each training in work folders, or in folders that hold some; by default in the config's.

    Raises UserError where a folder has none.
    """
    runs = [run for folder in folders or [config.work] for run in runs_under(folder)]
    table("trainings", COLUMNS, [line_of(run) for run in runs])
    return ExitCode.DONE


def runs_under(folder: Path) -> list[Path]:
    """Return the folders of trainings in a work folder or some levels below, by name, without those moved aside."""
    patterns = ["*/" * depth + "train/*/run.json" for depth in range(DEEPEST + 1)]
    found = {path.parent for pattern in patterns for path in folder.glob(pattern)}
    runs = sorted(run for run in found if "-before-" not in run.name)
    if not runs:
        raise UserError(
            f"{folder}: no training, nor in the folders below; expected a work folder, or one that has some."
        )
    return runs


def line_of(run: Path) -> list[str]:
    """Return the cells of a training; what it has not written is left empty."""
    rows = read_rows(run / "train.csv")
    steps = [row for row in rows if row["loss"]]
    scores = [(float(row["dice"]), int(row["step"])) for row in rows if row.get("dice")]
    done = int(steps[-1]["step"]) if steps else 0
    speed = float(steps[-1]["patches_per_second"]) if steps else None
    length, batch = length_and_batch(run)
    best = max(scores, default=None)
    finished = (run / "done.json").exists()
    left_s = (length - done) * batch / speed if length and batch and speed and not finished else None
    return [
        str(run),
        state_of(run, batch / speed if batch and speed else 0.0),
        f"{done}/{length}" if length else str(done),
        f"{best[0]:.4f} at {best[1]}" if best else "",
        f"{speed:.3g}" if speed else "",
        "" if left_s is None else in_clock(left_s),
        health_of(run),
    ]


def length_and_batch(run: Path) -> tuple[int | None, int | None]:
    """Return the steps of a training, where they are known, and the patches of each."""
    try:
        length = read_facts(run).steps
        batch = read_json(run / "run.json")["keys"]["sample.batch"]
    except (UserError, KeyError) as error:
        log.debug("%s: %s", run, error)
        return None, None
    return length, batch


def state_of(run: Path, step_s: float) -> str:
    """Return whether a training is done, goes on, or has stopped."""
    if (run / "done.json").exists():
        return "done"
    written = [path.stat().st_mtime for path in (run / VITALS, run / "run.json") if path.exists()]
    silent_s = time.time() - max(written)
    return "running" if silent_s < max(SILENT_S, SILENT_STEPS * step_s) else f"silent for {in_clock(silent_s)}"


def health_of(run: Path) -> str:
    """Return the names of what is wrong, as `doctor run` finds it; empty where the training wrote nothing down."""
    try:
        watchdog, records = Watchdog(read_facts(run)), read_records(run)
    except UserError as error:
        log.debug("%s: %s", run, error)
        return ""
    watchdog.replay(*records)
    return "; ".join(finding.name for finding in watchdog.findings) or ("well" if records.vitals else "")


def in_clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{left:02d}"
