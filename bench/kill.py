"""A training that is killed at random moments, again and again, must end with the bits of one that was left alone.

python bench/kill.py --kills 100
python bench/kill.py --kills 12 --signal term --work /tmp/kills

Each attempt is the same command. At a random moment it is stopped (SIGSTOP), so that its files say what it is at, and
then killed (SIGKILL), or asked to end (SIGTERM) and let go on. Half of the kills come at any moment: in the start,
by its share of the time that the run left alone took, or in or after any step that is left. The others wait for the
next moment of saving, of validation, of writing the model after one, or in which a start writes. States are saved at
the steps of validations, too, before and after them. After six kills a run is let go to its end. Every second run has a
loader process. Exits with 1 where a run did not go on, ended with other bits, rows or curves, or left something behind;
its folder is then kept. Ctrl-C or SIGTERM end it with what was seen so far.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.pop(0)  # this folder, whose monai.py is not the library
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.kill_run import SAVE_EVERY, STEPS, Attempt, Place, command, differences, newest_state
from pipeline.errors import ExitCode
from pipeline.files import kernel_fields
from pipeline.log import table
from pipeline.training.notice import MARGIN_S

SIGNALS = {"kill": [signal.SIGKILL], "term": [signal.SIGTERM], "both": [signal.SIGKILL, signal.SIGTERM]}
ANY = None
AIMS = (ANY, Place.SAVING, ANY, Place.VALIDATION, ANY, Place.MODEL, ANY, Place.START)  # of one kill after the other
KILLS_OF_A_RUN = 6
# After such a moment is seen.
LONGEST_DELAY_S = {Place.SAVING: 0.01, Place.MODEL: 0.005, Place.VALIDATION: 0.5, Place.START: 0.1}
POLL_S = {Place.SAVING: 0.0005, Place.MODEL: 0.0005, Place.START: 0.0005}  # they are over soon
CALM_POLL_S = 0.005
HUNG_AFTER_S = 180.0
ORPHANS_END_WITHIN_S = 30.0  # busy cores: one that is starting must first come to read its pipe


@dataclass(frozen=True)
class Pace:
    """Seconds of the run that was left alone: until its first step was done, and from there to its end."""

    start: float
    rest: float

    @property
    def step(self) -> float:
        return self.rest / STEPS


@dataclass(frozen=True)
class Moment:
    """When an attempt is to be killed: seconds after a step is done, or, where `step` is None, after the start."""

    step: int | None
    seconds: float

    @classmethod
    def drawn(cls, work: Path, pace: Pace, chance: random.Random) -> "Moment":
        """Return any moment of an attempt; counted in steps, as what else the machine does changes their time."""
        done = newest_state(work)
        drawn_s = chance.uniform(0, pace.start + pace.step * (STEPS - done))
        if drawn_s < pace.start:
            return cls(None, drawn_s)
        return cls(done + 1 + int((drawn_s - pace.start) / pace.step), chance.uniform(0, pace.step))

    def has_come(self, attempt: Attempt) -> bool:
        return self.step is None or (attempt.last_step() or 0) >= self.step


@dataclass
class Tally:
    """What became of all kills. deaf: SIGTERMs that came before Python could hear them, and ended it."""

    waiting: list[signal.Signals]
    landed: Counter[tuple[Place, signal.Signals]] = field(default_factory=Counter)
    deaf: int = 0
    slowest_end_s: float = 0.0
    runs: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(self.landed.values())


def main() -> int:
    """Kill, print the table and the failures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="of each signal (default 100)")
    parser.add_argument("--signal", choices=SIGNALS, default="both", help="SIGKILL, SIGTERM or both (default)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    waiting = [number for number in SIGNALS[arguments.signal] for _ in range(arguments.kills)]
    chance.shuffle(waiting)
    tally = Tally(waiting)
    work = Path(tempfile.mkdtemp(prefix="kill-")) if arguments.work is None else arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    store, pace = prepare(work)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        while tally.waiting:
            one_run(work / f"run-{tally.runs + 1:03d}", store, work / "alone", pace, chance, tally)
    report(tally, pace)
    if not tally.failures and arguments.work is None:
        shutil.rmtree(work)
    return bool(tally.failures)


def prepare(work: Path) -> tuple[Path, Pace]:
    """Make the store and the run that is left alone; return the store, and how long the run took."""
    prepared = work / "prepared"
    subprocess.run(command("prepare", prepared), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (work / "alone").mkdir()
    began = time.monotonic()
    attempt = Attempt.start(work / "alone", f"data.store={prepared / 'store'}")
    while attempt.last_step() is None and attempt.process.poll() is None:
        time.sleep(CALM_POLL_S)
    started = time.monotonic()
    if attempt.process.wait() != ExitCode.DONE:
        raise SystemExit(f"the run that was left alone did not end well: see {work / 'alone' / 'said.txt'}")
    return prepared / "store", Pace(started - began, time.monotonic() - started)


def one_run(work: Path, store: Path, alone: Path, pace: Pace, chance: random.Random, tally: Tally) -> None:
    """Take a run to its end, through some kills, and compare it with the one that was left alone."""
    tally.runs += 1
    before = tally.kills
    work.mkdir()
    overrides = (f"data.store={store}", f"sample.workers={tally.runs % 2}")
    wrong: list[str] = []
    ended = False
    while not ended and not wrong:
        to_be_killed = tally.waiting and tally.kills - before < KILLS_OF_A_RUN
        with attempted(work, *overrides) as attempt:
            if to_be_killed and caught(attempt, AIMS[tally.kills % len(AIMS)], pace, chance):
                wrong += strike(attempt, tally.waiting.pop(), tally)
            else:
                ended = True
                wrong += ending(attempt, alone)
            wrong += survivors(attempt.process.pid)
    tally.failures += [f"{work}: {what}" for what in wrong]
    print(f"run {tally.runs}: {tally.kills - before} kills, {'; '.join(wrong) or 'the same bits'}", flush=True)
    if not wrong:
        shutil.rmtree(work)


@contextmanager
def attempted(work: Path, *overrides: str) -> Iterator[Attempt]:
    """Begin a run or go on with it; nothing of the attempt is left afterwards."""
    attempt = Attempt.start(work, *overrides)
    try:
        yield attempt
    finally:
        with suppress(ProcessLookupError):
            os.killpg(attempt.process.pid, signal.SIGKILL)


def caught(attempt: Attempt, aim: Place | None, pace: Pace, chance: random.Random) -> bool:
    """Wait for the moment of a kill, and stop the process there; False where it ended before, or hangs."""
    moment = Moment.drawn(attempt.work, pace, chance) if aim is not Place.START else Moment(None, 0.0)
    if not waited(attempt, lambda: moment.has_come(attempt), CALM_POLL_S):
        return False
    time.sleep(moment.seconds)
    while waited(attempt, lambda: is_at(attempt, aim), POLL_S.get(aim, CALM_POLL_S)):
        time.sleep(chance.uniform(0, LONGEST_DELAY_S.get(aim, 0.0)))
        if not stopped(attempt):
            return False
        if aim in (ANY, Place.START) or attempt.place() is aim:
            return True
        attempt.process.send_signal(signal.SIGCONT)  # it was over too soon
    return False


def waited(attempt: Attempt, ready: Callable[[], bool], poll_s: float) -> bool:
    """Wait until a process is ready; False where it ended before, or hangs."""
    deadline = time.monotonic() + HUNG_AFTER_S
    while not ready():
        if attempt.process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True


def is_at(attempt: Attempt, aim: Place | None) -> bool:
    """Say whether a process is where a kill is aimed at."""
    if aim in (Place.SAVING, Place.START):  # quickly, as it does not take long
        return bool(attempt.temporaries())
    if aim is Place.MODEL:
        return attempt.writes_model()
    return aim is ANY or attempt.place() is aim


def stopped(attempt: Attempt) -> bool:
    """Stop a process and wait until it stands still; False where it has ended."""
    attempt.process.send_signal(signal.SIGSTOP)
    while (state := state_of_process(attempt.process.pid)) != "T":
        if state == "Z":
            return False
        time.sleep(CALM_POLL_S)
    return True


def strike(attempt: Attempt, number: signal.Signals, tally: Tally) -> Iterator[str]:
    """Kill a process that stands still, or ask it to end; yield what is wrong with how it ended."""
    process, place, before = attempt.process, attempt.place(), attempt.last_step()
    hears = listens(process.pid, number)
    longest_s = attempt.longest_operation_s()
    tally.landed[place, number] += 1
    began = time.monotonic()
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    try:
        code = process.wait(HUNG_AFTER_S)
    except subprocess.TimeoutExpired:
        yield f"{number.name} in {place}: still there after {HUNG_AFTER_S:g} s"
        return
    spent_s = time.monotonic() - began
    last, saved = attempt.last_step(), newest_state(attempt.work)
    told = f"{number.name} in {place}, after step {before}"
    if number == signal.SIGKILL:
        if last is not None and last - saved > SAVE_EVERY:
            yield f"{told}: after step {last} the newest state is of step {saved}"
        return
    tally.slowest_end_s = max(tally.slowest_end_s, spent_s)
    allowed = {ExitCode.INTERRUPTED} if hears else {-number}
    tally.deaf += place is Place.START and not hears
    if place is Place.END or attempt.place() is Place.END:
        allowed.add(ExitCode.DONE)
    if code not in allowed:
        yield f"{told}: exit code {code}, expected {', '.join(str(int(each)) for each in allowed)}"
    if spent_s > MARGIN_S + longest_s:
        yield f"{told}: took {spent_s:.1f} s to end, with {longest_s:.1f} s for the longest operation"
    if last is not None and saved != last:
        yield f"{told}: the last step was {last}, the newest state is of step {saved}"
    if last is not None and last - (before or last) > 1:
        yield f"{told}: went on to step {last}"


def ending(attempt: Attempt, alone: Path) -> Iterator[str]:
    """Let a process come to its end; yield what is wrong with it, and with the run."""
    try:
        code = attempt.process.wait(HUNG_AFTER_S)
    except subprocess.TimeoutExpired:
        yield f"no end after {HUNG_AFTER_S:g} s"
        return
    if code == ExitCode.DONE:
        yield from differences(attempt.work, alone)
    else:
        yield f"ended by itself with exit code {code}"


def survivors(session: int) -> Iterator[str]:
    """Yield the processes of an attempt that outlive it."""
    deadline = time.monotonic() + ORPHANS_END_WITHIN_S
    while (alive := processes_of(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield from (f"process {each} of the attempt lives on" for each in alive)


def processes_of(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = kernel_fields(int(path.name))
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(path.name))
    return found


def state_of_process(process: int) -> str:
    """Return the kernel's letter: T for one that is stopped, Z for one that has ended."""
    try:
        return kernel_fields(process)[0]
    except (FileNotFoundError, ProcessLookupError):  # `send_signal` has found it ended, and nothing is left of it
        return "Z"


def listens(process: int, number: signal.Signals) -> bool:
    """Say whether a process has a handler for a signal."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return bool(caught >> (number - 1) & 1)


def report(tally: Tally, pace: Pace) -> None:
    """Print where the kills landed, and what went wrong."""
    numbers = sorted({number for _, number in tally.landed}, reverse=True)
    rows = [[place, *(tally.landed[place, number] for number in numbers)] for place in Place]
    rows.append(["all", *(sum(tally.landed[place, number] for place in Place) for number in numbers)])
    title = f"{tally.kills} kills in {tally.runs} runs; one left alone took {pace.start + pace.rest:.1f} s"
    table(title, ["where", *(number.name for number in numbers)], rows)
    if signal.SIGTERM in numbers:
        print(
            f"slowest end after SIGTERM: {tally.slowest_end_s:.1f} s; {tally.deaf} came before Python could hear them"
        )
    print(f"failures: {len(tally.failures)}", *tally.failures, sep="\n  ")


if __name__ == "__main__":
    sys.exit(main())
