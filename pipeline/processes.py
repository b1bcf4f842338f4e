"""Spawned processes that answer, die loudly and leave signals to their parent; and what this process may use."""

import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pipeline.errors import ASKED_BY, Interrupted, UserError, explain
from pipeline.log import keep, log

DIED = "perhaps memory ran out: run the same command again with prepare.workers=1 or evaluate.workers=1"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Failure(NamedTuple):
    """Why something was not made: a sentence; whether the machine (disk, memory, a dead process) was the reason.

    died: whether the process that had it in hand is dead, and so could not clear up.
    """

    sentence: str
    by_machine: bool
    died: bool = False


def each(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int
) -> Generator[tuple[Item, Result | Failure], None, None]:
    """Call a function on every item; yield (item, what it returned) as each is finished, in any order.

    workers: spawned processes, one item at a time each; function, items and results must then be picklable. 0 calls in
        this process, in the order of the items.
    An item whose call raises, or whose process dies, gives a Failure and the others go on. KeyboardInterrupt and
    Interrupted are passed on. Closing the generator ends the processes at once. What they log is logged here.
    """
    if not workers:
        return ((item, _attempt(function, item)) for item in items)
    return _in_processes(function, items, workers)


def failure_of(error: Exception) -> Failure:
    """Return what a user is told of an error; the traceback of an internal one goes to the log."""
    machine = explain(error)
    if isinstance(error, UserError) or machine is not None:
        return Failure(str(error) if machine is None else machine, machine is not None)
    log.debug("%s", "".join(traceback.format_exception(error)))
    return Failure(f"{type(error).__name__}: {error} (an internal error)", by_machine=False)


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | Failure:
    try:
        return function(item)
    except Interrupted:
        raise
    except Exception as error:
        return failure_of(error)


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[tuple[Item, Result | Failure], None, None]:
    """Call on items side by side.

    concurrent.futures is not used: when one of its processes dies, it ends all of them and does not say whose item
    was to blame. Here a death fails the item that the process had in hand, and a new process takes its place.
    """
    waiting = deque(items)
    workers = min(workers, max(1, len(items)))
    threads = max(1, available_cores() // workers)
    busy: dict[Any, _Worker] = {}  # by the connection that each answers on
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker = _Worker(function, threads)
                busy[worker.connection] = worker
                worker.give(waiting.popleft())
            for ready in wait(list(busy)):
                worker = busy[ready]
                finished = worker.finish()
                if worker.process.is_alive() and waiting:
                    worker.give(waiting.popleft())
                else:
                    del busy[ready]
                    worker.stop()
                yield finished
    finally:
        for worker in busy.values():
            worker.stop()


class _Worker:
    """A spawned process that takes one item at a time."""

    def __init__(self, function: Callable[[Any], Any], threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with spawning(threads):
            self.process.start()
        theirs.close()  # the end of the process then shows as the end of the pipe
        self._send(function)

    def give(self, item: Any) -> None:
        """Hand over the next item."""
        self.item = item
        self._send(item)

    def _send(self, message: Any) -> None:
        with suppress(ConnectionError):  # the process is dead: `finish` finds out
            self.connection.send(message)

    def finish(self) -> tuple[Any, Any]:
        """Wait for the item in hand; return it with its result, or the Failure."""
        try:
            result, messages = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            ending = ending_of(self.process.exitcode or 0)
            return self.item, Failure(f"its worker process {ending}", by_machine=True, died=True)
        for level, message in messages:
            log.log(level, message)
        return self.item, result

    def stop(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def ending_of(code: int) -> str:
    """Return in words how a process ended, by its exit code as multiprocessing gives it."""
    return f"was killed by signal {-code}; {DIED}" if code < 0 else f"ended with code {code}; see above"


@contextmanager
def spawning(threads: int) -> Iterator[None]:
    """Start processes that numeric libraries give `threads` threads each, and that leave signals to their parent.

    A terminal or a job scheduler signals the whole process group, while only the parent knows what to do about it:
    the processes inherit a mask that blocks SIGINT, SIGTERM, SIGUSR1 and SIGHUP from their first instruction on.
    """
    resource_tracker.ensure_running()  # started later, it would lift the mask
    given = os.environ.get("OMP_NUM_THREADS")
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when NumPy is loaded: too late to set it in there
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ASKED_BY)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if given is None:
            del os.environ["OMP_NUM_THREADS"]


def _serve(connection: Connection) -> None:
    """Answer each item that arrives until the pipe closes; runs in a worker process."""
    kept = keep()
    with suppress(EOFError, ConnectionError):
        function = connection.recv()
        while True:
            result = _attempt(function, connection.recv())
            connection.send((result, kept.take()))


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


def available_cores() -> int:
    """Return how many CPU cores this process may use: affinity, cgroup quota and Slurm's grant; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    limits = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if granted.isdecimal():
        limits.append(int(granted))
    return max(1, min(limits + _cgroup_cores(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))))


def threads_of(given: int | Literal["auto"], others: int = 0) -> int:
    """Return how many threads a `threads` key asks for, beside `others` processes.

    auto: the cores that are left, at least one, and no more than OMP_NUM_THREADS, where that is set.
    """
    if given != "auto":
        return given
    cores = max(1, available_cores() - others)
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(cores, int(limit)) if limit.isdecimal() and int(limit) else cores


def workers_of(given: int | Literal["auto"]) -> int:
    """Return how many processes a `workers` key asks for; auto: a process for each core that may be used."""
    return available_cores() if given == "auto" else given


def _cgroup_cores(mounted: Path, membership: Path) -> list[int]:
    """Return the CPU quotas, in whole cores: of the cgroups (version 2) that a process belongs to and of those above,
    and of the one (version 1) that is mounted.
    """
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
