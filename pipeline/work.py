"""The work folder, and its units: each made under a temporary name, renamed, recorded, and skipped when it stands."""

import importlib.metadata
import platform
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline import __version__
from pipeline.errors import ExitCode, Interrupted, UserError, explain
from pipeline.files import publish, read_json, remove, remove_leftovers, temporary_sibling, write_json
from pipeline.log import log, progress
from pipeline.processes import Failure, each, peak_memory_bytes

RUN = "run.json"  # in the folder of every training, from its beginning
DONE = "done.json"  # in the folder of a training or a stage, when all of it is made
MODEL = "model"
STATE = "state"
RECORDED_LIBRARIES = ("numpy", "scipy", "nibabel", "torch", "monai")


@dataclass(frozen=True)
class WorkFolder:
    """Where one experiment keeps its files."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def predict(self) -> Path:
        return self.root / "predict"

    @property
    def evaluate(self) -> Path:
        return self.root / "evaluate"

    @property
    def folds(self) -> Path:
        return self.root / "folds"

    def train(self, fold: int | Literal["all"]) -> Path:
        return self.root / "train" / ("all" if fold == "all" else f"fold{fold}")

    def model(self, fold: int | Literal["all"]) -> Path:
        return self.train(fold) / MODEL

    def state(self, fold: int | Literal["all"]) -> Path:
        return self.train(fold) / STATE

    def log(self, stage: str) -> Path:
        return self.root / "log" / f"{stage}.log"


@dataclass(frozen=True)
class Unit:
    """One thing that a stage makes.

    name: unique within the stage; also the name of its record.
    key: a hash of exactly what changes its bits.
    output: the file or folder that is made.
    """

    name: str
    key: str
    output: Path


class Task(NamedTuple):
    """A unit, and the temporary name under which it is made."""

    unit: Unit
    temporary: Path


Make = Callable[[Unit, Path], dict[str, Any] | None]


@dataclass(frozen=True)
class Outcome:
    """What became of the units of a stage, by name.

    failed: a sentence for each.
    by_machine: those of `failed` that the machine failed; leaving them out would cure nothing.
    """

    done: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    by_machine: frozenset[str] = frozenset()

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.SOME_FAILED if self.failed else ExitCode.DONE

    def __add__(self, other: "Outcome") -> "Outcome":
        failed, by_machine = {**self.failed, **other.failed}, self.by_machine | other.by_machine
        return Outcome(self.done + other.done, self.skipped + other.skipped, failed, by_machine)


def run_units(
    stage: Path,
    units: Sequence[Unit],
    make: Make,
    *,
    workers: int,
    shard: str = "1/1",
    what: str = "",
    gathered: Callable[[], None] | None = None,
) -> Outcome:
    """Make the units of a shard that do not stand already, and return what became of each.

    stage: the stage's folder; records go to `stage/records`, and `stage/done.json` is written once all `units` stand.
    make: called as make(unit, temporary) to write the output at `temporary`; returns facts for the record (JSON
        values) or None. With workers > 0 it must be picklable.
    workers: spawned processes, one unit at a time each; 0 makes the units in this process.
    shard: "i/n" makes units i, i + n, i + 2n, ... (from 1).
    what: the word that progress is shown under; by default the name of the stage's folder.
    gathered: called once all `units` stand, just before `done.json` is written: for what is made of all of them.

    A unit whose `make` raises fails with a sentence and an `error.json`, and the others go on; so does a unit whose
    process dies. Raises Interrupted on SIGINT, after the processes were ended and their temporary files removed.
    """
    mine = of_shard(units, shard)
    (stage / "records").mkdir(parents=True, exist_ok=True)
    for folder in {stage, stage / "records", *(unit.output.parent for unit in mine)}:
        remove_leftovers(folder)
    skipped = tuple(unit.name for unit in mine if _standing(stage, unit) is not None)
    standing = set(skipped)
    waiting = [unit for unit in mine if unit.name not in standing]
    if gather(stage, units) is None:
        remove(stage / DONE)
    failures = _make_all(stage, [Task(unit, temporary_sibling(unit.output)) for unit in waiting], make, workers, what)
    # Only written here, never removed: another shard may have finished the stage a moment ago.
    if gather(stage, units) is not None:
        if gathered is not None:
            gathered()
        write_json(stage / DONE, {"units": [unit.name for unit in units]})
    ended = [(unit.name, failures[unit.name]) for unit in waiting]  # in the order of units, not of finishing
    done = tuple(name for name, why in ended if why is None)
    failed = {name: why.sentence for name, why in ended if why is not None}
    return Outcome(done, skipped, failed, frozenset(name for name, why in ended if why and why.by_machine))


def of_shard(units: Sequence[Unit], shard: str) -> Sequence[Unit]:
    """Return the units of the shard "i/n"."""
    position, count = (int(part) for part in shard.split("/"))
    return units[position - 1 :: count]


def forget(stage: Path, unit: Unit) -> None:
    """Have a unit made again by the next `run_units`, though its output may stand."""
    _record_path(stage, unit).unlink(missing_ok=True)


def _make_all(stage: Path, tasks: Sequence[Task], make: Make, workers: int, what: str) -> dict[str, Failure | None]:
    """Make units and return why each failed, or None, by name; raises Interrupted once what had begun is removed."""
    failures: dict[str, Failure | None] = {}
    made = each(partial(_attempt, stage, make), tasks, workers=workers)
    try:
        with closing(made), progress(len(tasks), what or stage.name) as advance:
            for task, why in made:
                if why is not None and why.died:
                    _write_failure(_error_path(stage, task.unit), task.unit, why.sentence)
                    remove(task.temporary)
                if why is not None:
                    log.error("%s: %s", task.unit.name, why.sentence)
                failures[task.unit.name] = why
                advance(task.unit.name)
    except KeyboardInterrupt as error:
        raise Interrupted from error
    finally:
        for task in tasks:
            if task.unit.name not in failures:
                remove(task.temporary)
    return failures


def gather(stage: Path, units: Sequence[Unit]) -> list[dict[str, Any]] | None:
    """Return the records of all `units` in their order, or None as long as one of them does not stand."""
    records = [_standing(stage, unit) for unit in units]
    complete = [record for record in records if record is not None]
    return complete if len(complete) == len(records) else None


def _record_path(stage: Path, unit: Unit) -> Path:
    return stage / "records" / f"{unit.name}.json"


def _error_path(stage: Path, unit: Unit) -> Path:
    return stage / "records" / f"{unit.name}.error.json"


def _standing(stage: Path, unit: Unit) -> dict[str, Any] | None:
    """Return the record of a unit that was made with the same key and whose output is still there, else None."""
    path = _record_path(stage, unit)
    try:
        record = read_json(path) if path.exists() else {}
    except UserError:
        return None
    if record.get("key") != unit.key or record.get("outputs") != _sizes(unit.output, unit.output.name):
        return None
    return record


def _sizes(made: Path, name: str) -> dict[str, int]:
    """Return the size in bytes of a file, or of each in a folder, under the name `name`; empty where none is there."""
    with suppress(FileNotFoundError):  # another process may be putting its own there
        if made.is_file():
            return {name: made.stat().st_size}
        files = sorted(path for path in made.rglob("*") if path.is_file())
        return {str(Path(name, path.relative_to(made))): path.stat().st_size for path in files}
    return {}


def _attempt(stage: Path, make: Make, task: Task) -> Failure | None:
    """Make one unit and write its record; return None, or why it failed."""
    unit, temporary = task
    started_s = time.perf_counter()
    try:
        unit.output.parent.mkdir(parents=True, exist_ok=True)
        facts = make(unit, temporary)
        if _standing(stage, unit) is not None:
            return None  # another process has made the same unit meanwhile
        # An old record must never stand beside a new output: the sizes alone would not tell them apart.
        _record_path(stage, unit).unlink(missing_ok=True)
        outputs = _sizes(temporary, unit.output.name)
        publish(temporary, unit.output)
        record = {
            "name": unit.name,
            "key": unit.key,
            "outputs": outputs,
            "seconds": round(time.perf_counter() - started_s, 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "versions": versions(),
            "facts": facts or {},
        }
        write_json(_record_path(stage, unit), record)
        _error_path(stage, unit).unlink(missing_ok=True)
    except Interrupted:
        raise
    except Exception as error:
        if isinstance(error, OSError) and _standing(stage, unit) is not None:
            return None  # a lost rename: another process made the same unit first
        return _note_failure(stage, unit, error)
    finally:
        remove(temporary)
    return None


def _note_failure(stage: Path, unit: Unit, error: Exception) -> Failure:
    """Write the unit's error.json and return what its user is told."""
    machine = explain(error)
    known = str(error) if isinstance(error, UserError) else machine
    path = _error_path(stage, unit)
    sentence = known or f"{type(error).__name__}: {error} (an internal error; its traceback is in {path})"
    _write_failure(path, unit, sentence, "".join(traceback.format_exception(error)))
    return Failure(sentence, machine is not None)


def _write_failure(path: Path, unit: Unit, sentence: str, trace: str = "") -> None:
    """Write an error.json; a disk that refuses it has been reported by the sentence already."""
    with suppress(OSError):
        write_json(path, {"name": unit.name, "key": unit.key, "error": sentence, "traceback": trace})


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that this process has loaded."""
    loaded = {name: importlib.metadata.version(name) for name in RECORDED_LIBRARIES if name in sys.modules}
    return {"python": platform.python_version(), "hounsfield": __version__, **loaded}
