"""Several processes that train one network learn what one learns."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import ExitCode, UserError
from pipeline.files import read_json
from pipeline.monitor.table import read_rows
from pipeline.stages import train

from .conftest import SETTINGS, Configure

ROOT = Path(__file__).parents[2]
STEPS = 20
LENGTH = (f"train.steps={STEPS}", "train.validate_every_steps=10", "train.log_every_steps=1", "sample.batch=4")


def start_ranks(source: Path, store: Path, work: Path, *overrides: str, count: int = 2) -> list[subprocess.Popen[str]]:
    """Start the training stage in processes as torchrun would."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    words = [f"data.source={source}", f"data.store={store}", f"work={work}", *SETTINGS, *LENGTH, *overrides]
    return [
        subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "train.py"), *words], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | place | {"RANK": str(number), "LOCAL_RANK": str(number), "OMP_NUM_THREADS": "1"},
        )
        for number in range(count)
    ]  # fmt: skip


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Wait for processes, and return exit code and what each said."""
    said = [process.communicate(timeout=300)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def losses(work: Path) -> list[float]:
    return [float(row["loss"]) for row in read_rows(work / "train/fold0/train.csv") if row["loss"]]


def scores(work: Path) -> list[float]:
    return [float(row["dice"]) for row in read_rows(work / "train/fold0/train.csv") if row["dice"]]


@pytest.fixture(scope="module")
def alone(source: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the work folder of a run in one process."""
    work = tmp_path_factory.mktemp("alone")
    ((code, said),) = ended(start_ranks(source, store, work, count=1))
    assert code == ExitCode.DONE, said
    return work


def assert_alike(work: Path, alone: Path) -> None:
    assert losses(work) == pytest.approx(losses(alone), rel=1e-6)
    assert len(losses(work)) == STEPS
    assert scores(work) == pytest.approx(scores(alone), abs=1e-3)
    ours, theirs = (load_file(folder / "train/fold0/model/weights.safetensors") for folder in (work, alone))
    for name, values in theirs.items():
        torch.testing.assert_close(ours[name], values, rtol=1e-3, atol=1e-5)


def test_a_batch_in_parts_teaches_what_it_teaches_at_once(configure: Configure, alone: Path) -> None:
    config = configure(*LENGTH, "train.accumulate=2")
    train.run(config)
    assert_alike(config.work, alone)


def test_two_processes_learn_what_one_learns_and_write_once(
    source: Path, store: Path, alone: Path, tmp_path: Path
) -> None:
    first, second = ended(start_ranks(source, store, tmp_path))
    assert (first[0], second[0]) == (ExitCode.DONE, ExitCode.DONE), (first, second)
    assert_alike(tmp_path, alone)
    assert "2 processes share each batch of 4" in first[1]
    assert second[1] == ""


@pytest.mark.slow
def test_a_signal_to_one_process_saves_the_state_and_ends_all(source: Path, store: Path, tmp_path: Path) -> None:
    longer = ("train.steps=150", "train.validate_every_steps=150")  # long enough to be caught in the middle
    processes = start_ranks(source, store, tmp_path, *longer)
    while not losses(tmp_path):
        time.sleep(0.05)
        assert all(process.poll() is None for process in processes)
    processes[1].send_signal(signal.SIGUSR1)
    codes = [code for code, _ in ended(processes)]
    assert codes == [ExitCode.INTERRUPTED] * 2
    done = len(losses(tmp_path))
    assert 0 < done < 150
    again = ended(start_ranks(source, store, tmp_path, *longer))
    assert [code for code, _ in again] == [ExitCode.DONE] * 2, again
    assert f"continuing after step {done}" in again[0][1]
    assert len(losses(tmp_path)) == 150


@pytest.mark.slow
def test_a_process_that_dies_ends_the_other_with_a_sentence(source: Path, store: Path, tmp_path: Path) -> None:
    processes = start_ranks(source, store, tmp_path, "train.steps=100000")
    while not losses(tmp_path):
        time.sleep(0.05)
    processes[1].kill()
    (code, said), _ = ended(processes)
    assert code == ExitCode.USER_ERROR
    assert "process 0 of 2: error: another process of this run has ended, and its own message says why" in said


def test_a_batch_that_cannot_be_shared_is_refused(configure: Configure) -> None:
    with pytest.raises(UserError, match=r"sample.batch: 2 patches .* among 1 processes with train.accumulate=4"):
        train.run(configure("sample.batch=2", "train.accumulate=4"))


@pytest.mark.slow
def test_of_two_copies_of_a_run_the_older_ends(source: Path, store: Path, tmp_path: Path) -> None:
    longer = "train.steps=3000"
    (older,) = start_ranks(source, store, tmp_path, longer, count=1)
    while not losses(tmp_path):
        time.sleep(0.05)
        assert older.poll() is None
    (newer,) = start_ranks(source, store, tmp_path, longer, count=1)
    ((code, said),) = ended([older])
    assert code == ExitCode.INTERRUPTED, said
    assert newer.poll() is None
    newer.terminate()
    ((code, _),) = ended([newer])
    assert code == ExitCode.INTERRUPTED
    assert read_json(tmp_path / "train/fold0/owner.json")["process"] == newer.pid
