"""Two processes under torchrun: one that is killed ends all, and the same command goes on to the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import ExitCode
from pipeline.files import read_json
from pipeline.monitor.table import read_rows

from .conftest import SETTINGS

ROOT = Path(__file__).parents[2]
LENGTH = ("train.steps=60", "train.validate_every_steps=20", "train.save_every_steps=5", "train.log_every_steps=1")
FINAL = ("state/step-000000060/tensors.safetensors", "model/weights.safetensors")
A_MINUTE_S = 60.0

pytestmark = pytest.mark.slow


def started(source: Path, store: Path, work: Path) -> subprocess.Popen[str]:
    """Start a training in two processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [f"data.source={source}", f"data.store={store}", f"work={work}", *SETTINGS, *LENGTH]
    return subprocess.Popen(
        [*torchrun, str(ROOT / "scripts" / "train.py"), *words], cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def steps_done(work: Path) -> int:
    return sum(bool(row["loss"]) for row in read_rows(work / "train/fold0/train.csv"))


def wait_for_steps(process: subprocess.Popen[str], work: Path, steps: int) -> None:
    while steps_done(work) < steps:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def processes_of(agent: int) -> list[int]:
    """Return the processes that torchrun has started."""
    return [int(each) for each in Path(f"/proc/{agent}/task/{agent}/children").read_text().split()]


def bits_of(work: Path) -> list[bytes]:
    return [(work / "train/fold0" / name).read_bytes() for name in FINAL]


def table_of(work: Path) -> list[tuple[str, str, str]]:
    return [(row["step"], row["loss"], row["dice"]) for row in read_rows(work / "train/fold0/train.csv")]


@pytest.fixture(scope="module")
def left_alone(source: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the work folder of a run that nobody killed."""
    work = tmp_path_factory.mktemp("left_alone")
    process = started(source, store, work)
    said = process.communicate()[1]
    assert process.returncode == ExitCode.DONE, said
    return work


@pytest.mark.parametrize("first", [True, False], ids=["the one that writes", "the other one"])
def test_a_process_that_is_killed_ends_all_within_a_minute_and_the_same_command_goes_on(
    source: Path, store: Path, tmp_path: Path, left_alone: Path, first: bool
) -> None:
    process = started(source, store, tmp_path)
    wait_for_steps(process, tmp_path, 22)
    writes = read_json(tmp_path / "train/fold0/owner.json")["process"]
    (other,) = [each for each in processes_of(process.pid) if each != writes]
    os.kill(writes if first else other, signal.SIGKILL)
    said = process.communicate(timeout=A_MINUTE_S)[1]
    assert process.returncode != ExitCode.DONE
    assert "another process of this run has ended" in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    again = started(source, store, tmp_path)
    said = again.communicate()[1]
    assert again.returncode == ExitCode.DONE, said
    assert "continuing after step 20" in said
    assert bits_of(tmp_path) == bits_of(left_alone)
    assert table_of(tmp_path) == table_of(left_alone)


def test_torchrun_that_is_asked_to_end_lets_the_state_be_saved(
    source: Path, store: Path, tmp_path: Path, left_alone: Path
) -> None:
    process = started(source, store, tmp_path)
    wait_for_steps(process, tmp_path, 22)
    process.terminate()
    process.communicate(timeout=A_MINUTE_S)
    done = steps_done(tmp_path)
    assert 22 <= done < 60
    again = started(source, store, tmp_path)
    said = again.communicate()[1]
    assert again.returncode == ExitCode.DONE, said
    assert f"continuing after step {done}" in said
    assert bits_of(tmp_path) == bits_of(left_alone)
