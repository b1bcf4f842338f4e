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
from pipeline.ranks import Rank
from pipeline.stages import train
from pipeline.stages.recomputing import RECORD
from pipeline.training.distributed import Ranks

from .conftest import SETTINGS, Configure

ROOT = Path(__file__).parents[2]
STEPS = 20
FOREIGN = "net.name=tests.line.foreign:Foreign"
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
def test_two_processes_that_run_their_shares_in_parts_learn_what_one_learns(
    source: Path, store: Path, alone: Path, tmp_path: Path
) -> None:
    """A single patch at a time, for which torch has other kernels than for two: see `blocks.Convolution`."""
    results = ended(start_ranks(source, store, tmp_path, "train.accumulate=2"))
    assert {code for code, _ in results} == {ExitCode.DONE}, results
    assert_alike(tmp_path, alone)


@pytest.mark.slow
def test_bfloat16_on_two_processes_in_parts_learns_nearly_the_same(
    source: Path, store: Path, alone: Path, tmp_path: Path
) -> None:
    first, second = ended(start_ranks(source, store, tmp_path, "train.accumulate=2", "train.amp=bf16"))
    assert (first[0], second[0]) == (ExitCode.DONE, ExitCode.DONE), (first, second)
    assert "forward pass in torch.bfloat16" in first[1]
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=2e-2)
    assert losses(tmp_path) != pytest.approx(losses(alone), rel=1e-5)  # it is another type


@pytest.mark.parametrize(
    "net",
    [
        pytest.param((FOREIGN, "net.options={}"), id="a user's"),
        pytest.param(
            ("net.name=monai.BasicUNetPlusPlus", "net.options={features: [4, 4, 4, 4, 4, 4]}", "net.checkpoint=blocks",
             "sample.patch_vox=[32, 32, 32]"), id="MONAI's, recomputed", marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_weights_that_nothing_uses_hold_nobody_up(
    net: tuple[str, ...], source: Path, store: Path, tmp_path: Path
) -> None:
    short = (*net, "train.steps=4", "train.validate_every_steps=4", "train.warmup_steps=0")
    said = []
    for count in (1, 2):
        results = ended(start_ranks(source, store, tmp_path / str(count), *short, count=count))
        assert {code for code, _ in results} == {ExitCode.DONE}, results
        said.append(results[0][1])
    assert all("no output of the network depends on" in text for text in said)
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "2"), rel=1e-4)


@pytest.mark.slow
def test_processes_on_one_machine_decide_together_how_much_to_recompute(
    source: Path, store: Path, tmp_path: Path
) -> None:
    short = ("net.checkpoint=auto", "train.steps=2", "train.validate_every_steps=2", "train.warmup_steps=0")
    first, second = ended(start_ranks(source, store, tmp_path, *short))
    assert (first[0], second[0]) == (ExitCode.DONE, ExitCode.DONE), (first, second)
    assert read_json(tmp_path / "train/fold0" / RECORD)["mode"] == "none"


@pytest.mark.slow
def test_a_process_of_torchrun_that_raises_ends_all_with_its_reason(source: Path, store: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, *LENGTH, FOREIGN, "net.options={disaster: raise}"]
    words = [f"data.source={source}", f"data.store={store}", f"work={tmp_path}", *settings]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [*torchrun, "scripts/train.py", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    before = next((line for line in process.stderr if "no luck" in line), "")
    assert before, "it never came to the disaster"
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    said = before + rest
    assert "internal error: ValueError: no luck" in said  # by the process itself
    assert "process 0 of 2: error: process 1 of 2 has ended: ValueError: no luck; mend that" in said


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
    assert "process 0 of 2: error: another process of this run has ended without leaving a reason" in said


def test_a_batch_that_cannot_be_shared_is_refused(configure: Configure) -> None:
    with pytest.raises(UserError, match=r"sample.batch: 2 patches .* among 2 processes with train.accumulate=2"):
        train.check_batch(configure("sample.batch=2", "train.accumulate=2"), Ranks(Rank(count=2)))


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
