"""The work folder, and its units: each made under a temporary name, renamed, recorded, and skipped when it stands."""

import importlib.metadata
import multiprocessing
import os
import platform
import resource
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline import __version__
from pipeline.errors import ExitCode, Interrupted, UserError, explain
from pipeline.files import publish, read_json, remove, remove_leftovers, temporary_sibling, write_json
from pipeline.log import keep, log, progress

DIED = "perhaps memory ran out: run the same command again with prepare.workers=1 or evaluate.workers=1"
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

    def train(self, fold: int | Literal["all"]) -> Path:
        return self.root / "train" / ("all" if fold == "all" else f"fold{fold}")

    def model(self, fold: int | Literal["all"]) -> Path:
        return self.train(fold) / "model"

    def state(self, fold: int | Literal["all"]) -> Path:
        return self.train(fold) / "state"

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


class Failure(NamedTuple):
    """Why a unit failed: a sentence, and whether the machine (disk, memory, a dead process) was the reason."""

    sentence: str
    by_machine: bool


Make = Callable[[Unit, Path], dict[str, Any] | None]
Made = Generator[tuple[Unit, Failure | None], None, None]


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
    position, count = (int(part) for part in shard.split("/"))
    mine = units[position - 1 :: count]
    (stage / "records").mkdir(parents=True, exist_ok=True)
    for folder in {stage, stage / "records", *(unit.output.parent for unit in mine)}:
        remove_leftovers(folder)
    skipped = tuple(unit.name for unit in mine if _standing(stage, unit) is not None)
    standing = set(skipped)
    waiting = [unit for unit in mine if unit.name not in standing]
    if gather(stage, units) is None:
        remove(stage / "done.json")
    made = _in_processes(stage, waiting, make, workers) if workers else _in_this_process(stage, waiting, make)
    failures: dict[str, Failure | None] = {}
    try:
        with closing(made), progress(len(waiting), what or stage.name) as advance:
            for unit, why in made:
                failures[unit.name] = why
                if why is not None:
                    log.error("%s: %s", unit.name, why.sentence)
                advance(unit.name)
    except KeyboardInterrupt as error:
        raise Interrupted from error
    # Only written here, never removed: another shard may have finished the stage a moment ago.
    if gather(stage, units) is not None:
        if gathered is not None:
            gathered()
        write_json(stage / "done.json", {"units": [unit.name for unit in units]})
    ended = [(unit.name, failures[unit.name]) for unit in waiting]  # in the order of units, not of finishing
    done = tuple(name for name, why in ended if why is None)
    failed = {name: why.sentence for name, why in ended if why is not None}
    return Outcome(done, skipped, failed, frozenset(name for name, why in ended if why and why.by_machine))


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
    if record.get("key") != unit.key or record.get("outputs") != _sizes(unit.output):
        return None
    return record


def _sizes(output: Path) -> dict[str, int]:
    """Return the size in bytes of the output file, or of each file of the output folder; empty where none is there."""
    if output.is_file():
        return {output.name: output.stat().st_size}
    files = sorted(path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output.parent)): path.stat().st_size for path in files}


def _attempt(stage: Path, unit: Unit, temporary: Path, make: Make) -> Failure | None:
    """Make one unit and write its record; return None, or why it failed."""
    started_s = time.perf_counter()
    try:
        unit.output.parent.mkdir(parents=True, exist_ok=True)
        facts = make(unit, temporary)
        # An old record must never stand beside a new output: the sizes alone would not tell them apart.
        _record_path(stage, unit).unlink(missing_ok=True)
        publish(temporary, unit.output)
        record = {
            "name": unit.name,
            "key": unit.key,
            "outputs": _sizes(unit.output),
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


def _in_this_process(stage: Path, units: Sequence[Unit], make: Make) -> Made:
    """Make one unit after the other; yield each with why it failed, or None."""
    for unit in units:
        yield unit, _attempt(stage, unit, temporary_sibling(unit.output), make)


def _in_processes(stage: Path, units: Sequence[Unit], make: Make, workers: int) -> Made:
    """Make units side by side, and yield each with why it failed or None as soon as it is finished.

    concurrent.futures is not used: when one of its processes dies, it ends all of them and does not say whose unit
    was to blame. Here a death fails the unit that the process had in hand, and a new process takes its place.
    """
    waiting = deque(units)
    workers = min(workers, max(1, len(units)))
    threads = max(1, available_cores() // workers)
    busy: dict[Any, _Worker] = {}  # by the connection that each answers on
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker = _Worker(stage, make, threads)
                busy[worker.connection] = worker
                worker.give(waiting.popleft())
            for ready in wait(list(busy)):
                worker = busy[ready]
                unit, why = worker.finish()
                if worker.process.is_alive() and waiting:
                    worker.give(waiting.popleft())
                else:
                    del busy[ready]
                    worker.stop()
                yield unit, why
    finally:
        for worker in busy.values():
            worker.stop()


class _Worker:
    """A spawned process that makes one unit at a time."""

    def __init__(self, stage: Path, make: Make, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.stage = stage
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _spawning(threads):
            self.process.start()
        theirs.close()  # the end of the process then shows as the end of the pipe
        self._send((stage, make))

    def give(self, unit: Unit) -> None:
        """Hand over the next unit."""
        self.unit = unit
        self.temporary = temporary_sibling(unit.output)
        self._send((unit, self.temporary))

    def _send(self, message: tuple[Any, ...]) -> None:
        with suppress(BrokenPipeError):  # the process is dead: `finish` finds out
            self.connection.send(message)

    def finish(self) -> tuple[Unit, Failure | None]:
        """Wait for the unit in hand; return it with why it failed, or None."""
        try:
            why, messages = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            ending = f"was killed by signal {-code}; {DIED}" if code < 0 else f"ended with code {code}; see above"
            why, messages = Failure(f"its worker process {ending}", by_machine=True), []
            _write_failure(_error_path(self.stage, self.unit), self.unit, why.sentence)
            remove(self.temporary)
        for level, message in messages:
            log.log(level, message)
        return self.unit, why

    def stop(self) -> None:
        """End the process at once, and remove what it had begun to write."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        remove(self.temporary)


@contextmanager
def _spawning(threads: int) -> Iterator[None]:
    """Start processes that numeric libraries give `threads` threads each, and that leave signals to their parent.

    A terminal or a job scheduler signals the whole process group, while only the parent knows what to do about it:
    the processes inherit a mask that blocks SIGINT and SIGTERM from their first instruction on.
    """
    resource_tracker.ensure_running()  # started later, it would lift the mask
    given = os.environ.get("OMP_NUM_THREADS")
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when NumPy is loaded: too late to set it in there
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if given is None:
            del os.environ["OMP_NUM_THREADS"]


def _serve(connection: Connection) -> None:
    """Make the units that arrive until the pipe closes; runs in a worker process."""
    kept = keep()
    with suppress(EOFError, BrokenPipeError):
        stage, make = connection.recv()
        while True:
            unit, temporary = connection.recv()
            why = _attempt(stage, unit, temporary, make)
            connection.send((why, kept.take()))


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held so far, in bytes.

    On Linux from /proc: getrusage would report the peak of the parent in a spawned process with a smaller one.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that this process has loaded."""
    loaded = {name: importlib.metadata.version(name) for name in RECORDED_LIBRARIES if name in sys.modules}
    return {"python": platform.python_version(), "hounsfield": __version__, **loaded}


def available_cores() -> int:
    """Return how many CPU cores this process may use: affinity, cgroup quota and Slurm's grant; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    limits = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if granted.isdecimal():
        limits.append(int(granted))
    return max(1, min(limits + _cgroup_cores(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))))


def _cgroup_cores(mounted: Path, membership: Path) -> list[int]:
    """Return the CPU quotas, in whole cores, of the cgroups (version 2, else 1) that a process belongs to."""
    quotas: list[tuple[str, str]] = []
    with suppress(OSError):
        group = next((line[3:] for line in membership.read_text().splitlines() if line.startswith("0::")), "/")
        for folder in (Path(group), *Path(group).parents):
            with suppress(OSError, ValueError):
                quota, period = (mounted / folder.relative_to("/") / "cpu.max").read_text().split()
                quotas.append((quota, period))
    with suppress(OSError):
        version1 = mounted / "cpu"
        quotas.append(((version1 / "cpu.cfs_quota_us").read_text(), (version1 / "cpu.cfs_period_us").read_text()))
    return [int(quota) // int(period) for quota, period in quotas if quota.strip().isdecimal()]
