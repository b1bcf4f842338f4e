"""Commands that are asked to end, by a person or by a scheduler."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.usefixtures("terminal_heard")


STAGE = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, {root!r})
from pipeline.cli import main
from pipeline.work import Unit, run_units

WORK = Path({work!r})

def make(unit, temporary):
    temporary.write_text("half")
    while unit.name == "slow" and not (WORK / "hurry").exists():
        time.sleep(0.01)

def run(config):
    units = [Unit(name, "k", WORK / "store" / name) for name in ("quick", "slow", "last")]
    return run_units(WORK / "store", units, make, workers={workers})

if __name__ == "__main__":
    sys.modules["pipeline.stages.prepare"] = SimpleNamespace(run=run)
    sys.exit(main("prepare", ["work=" + str(WORK)]))
"""


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGINT, 2), (signal.SIGTERM, 2), (signal.SIGHUP, 2)],
)
def test_a_signal_ends_with_75_and_the_same_command_continues(
    number: signal.Signals, workers: int, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    script = tmp_path / "stage.py"
    script.write_text(STAGE.format(root=str(ROOT), work=str(work), workers=workers))
    command = [sys.executable, str(script)]
    # A group of its own: a terminal and Slurm signal the processes of a stage together with their parent.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    _wait_for(lambda: any(work.glob("store/.partial-*-slow")) and (work / "store/records/quick.json").exists())
    os.killpg(process.pid, number)
    assert process.communicate(timeout=20)[1].endswith("interrupted; run the same command again to continue\n")
    assert process.returncode == 75
    assert list(work.glob("store/.partial-*")) == []
    made_before = (work / "store/quick").stat().st_mtime_ns
    (work / "hurry").touch()
    again = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert again.returncode == 0, again.stderr
    assert (work / "store/done.json").exists()
    assert (work / "store/quick").stat().st_mtime_ns == made_before


DROPPING = """
import sys
import time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, {root!r})
from pipeline.cli import main

WORK = Path({work!r})

class Dropped:
    def __del__(self):  # Python shows what is raised here and goes on
        (WORK / "begun").touch()
        time.sleep(60)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.stages.prepare":
            Dropped()

sys.meta_path.insert(0, Finder())
sys.modules["pipeline.stages.train"] = SimpleNamespace(run=lambda config: str(Dropped()))
sys.exit(main({stage!r}, ["work=" + str(WORK)]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_a_signal_in_an_import_or_while_training_is_set_up_is_not_lost(
    stage: str, number: signal.Signals, tmp_path: Path
) -> None:
    script = tmp_path / "stage.py"
    script.write_text(DROPPING.format(root=str(ROOT), work=str(tmp_path), stage=stage))
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)
    _wait_for((tmp_path / "begun").exists)
    process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 75
    assert said == "interrupted; run the same command again to continue\n"


SAVING = """
import sys
import time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, {root!r})
from pipeline.cli import main
from pipeline.errors import Interrupted
from pipeline.log import log
from pipeline.training.stop import StopRequest

WORK = Path({work!r})

def run(config):
    with StopRequest() as stop:
        (WORK / "begun").touch()
        while not stop.asked:
            time.sleep(0.01)
        log.info("stopping, once the state is saved")
        (WORK / "saved").touch()
        raise Interrupted("stopped by " + stop.asked)

if {noted}:
    sys.modules["pipeline.stages.train"] = SimpleNamespace(run=run)
    sys.exit(main("train", ["work=" + str(WORK)]))
sys.modules["pipeline.stages.prepare"] = SimpleNamespace(run=lambda config: [(WORK / "begun").touch(), time.sleep(60)])
sys.exit(main("prepare", ["work=" + str(WORK)]))
"""


@pytest.mark.parametrize("noted", [True, False])
def test_a_terminal_that_is_closed_ends_with_75_though_no_line_can_be_written_any_more(
    noted: bool, tmp_path: Path
) -> None:
    script = tmp_path / "stage.py"
    script.write_text(SAVING.format(root=str(ROOT), work=str(tmp_path), noted=noted))
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    _wait_for((tmp_path / "begun").exists)
    os.close(ours)  # the kernel then sends SIGHUP, as where an ssh session is lost
    assert process.wait(timeout=20) == 75
    assert (tmp_path / "saved").exists() == noted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_whose_reader_was_ended_by_the_same_signal_ends_with_75(
    number: signal.Signals, tmp_path: Path
) -> None:
    script = tmp_path / "stage.py"
    script.write_text(SAVING.format(root=str(ROOT), work=str(tmp_path), noted=False))
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)
    _wait_for((tmp_path / "begun").exists)
    assert process.stderr is not None
    process.stderr.close()  # as `tee` does
    process.send_signal(number)
    assert process.wait(timeout=20) == 75


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_is_ignored_does_not_end_a_command(number: signal.Signals, tmp_path: Path) -> None:
    """As SIGINT is in the background of a shell script, and SIGHUP under nohup."""
    script = tmp_path / "stage.py"
    script.write_text(SAVING.format(root=str(ROOT), work=str(tmp_path), noted=True))
    signal.signal(number, signal.SIG_IGN)
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)
    _wait_for((tmp_path / "begun").exists)
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    process.terminate()
    assert "interrupted; run the same command again to continue\n" in process.communicate(timeout=20)[1]
    assert process.returncode == 75 and (tmp_path / "saved").exists()


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s, "the stage did not get this far"
        time.sleep(0.01)
