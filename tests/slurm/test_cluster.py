"""The batch files on a real Slurm: the whole chain, a failed shard, a preemption that nobody can tell, two nodes."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.files import hash_file, read_json
from pipeline.monitor.table import read_rows
from tests.line.conftest import SETTINGS, TEST, TRAINING, source  # noqa: F401

from .conftest import Cluster

ROOT = Path(__file__).parents[2]
SITE = {
    "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "TRAIN_GPUS": "0", "PREPARE_SHARDS": "2", "INFER_SHARDS": "2",
    **{f"{stage}_CPUS": "1" for stage in ("PREPARE", "TRAIN", "INFER", "EVALUATE")},
    **{f"{stage}_MEMORY": "1500" for stage in ("PREPARE", "TRAIN", "INFER", "EVALUATE")},
}  # fmt: skip
STAGES = ("prepare", "train", "infer", "evaluate")
CHAIN_S = 150
STEPS = 250  # some seconds, so that they are under way when the preemption comes


def submit(cluster: Cluster, folder: Path, data: Path, *overrides: str, **variables: str) -> dict[str, str]:
    """Submit the line from `folder`, which holds its work folder; return the jobs' numbers by stage."""
    words = ["work=a run", f'data.source="{data}"', *SETTINGS, "infer.threads=1", "evaluate.workers=1", *overrides]
    command = ["bash", str(ROOT / "scripts" / "slurm" / "submit.sh"), *words]
    printed = cluster.run(*command, cwd=folder, **SITE, **variables)
    numbers = dict(line.split() for line in printed.splitlines() if line.startswith(STAGES))
    assert list(numbers) == list(STAGES)
    return numbers


def logs(folder: Path, stage: str, number: str) -> list[str]:
    """Return what the tasks of a job wrote, in their order."""
    files = sorted((folder / "a run" / "log" / "slurm").glob(f"{stage}-{number}*.log"))
    return [file.read_text() for file in files]


def wait_for_text(cluster: Cluster, folder: Path, stage: str, number: str, wanted: str, tasks: int) -> None:
    """Wait until the logs of all tasks of a job hold a text."""
    end = time.monotonic() + CHAIN_S
    while sum(wanted in text for text in logs(folder, stage, number)) < tasks:
        assert time.monotonic() < end, (cluster.jobs(number), logs(folder, stage, number))
        time.sleep(0.2)


def train_alone(cluster: Cluster, folder: Path, *overrides: str) -> None:
    """Train on the store of `a run` in one process and without Slurm, in the work folder `alone`."""
    words = [f'data.store="{folder / "a run" / "store"}"', "work=alone", *SETTINGS, *overrides]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *words]
    subprocess.run(command, cwd=folder, env=cluster.environment | SITE, check=True, capture_output=True)


def losses(work: Path) -> list[float]:
    """Return the loss of every step that was recorded."""
    return [float(row["loss"]) for row in read_rows(work / "train/fold0/train.csv") if row["loss"]]


@pytest.mark.slow
def test_a_failed_shard_ends_the_chain_and_the_next_one_makes_only_what_is_missing(
    cluster: Cluster,
    source: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    data = tmp_path / "a data set"
    shutil.copytree(source, data)
    damaged = data / "labels" / f"{TRAINING[1]}.nii.gz"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"not an image")
    jobs = submit(cluster, tmp_path, data)
    cluster.wait(list(jobs.values()), CHAIN_S)
    assert cluster.states(jobs["prepare"]) == ["COMPLETED", "FAILED"]  # hn_016 is the second case
    assert [*(cluster.states(jobs[stage]) for stage in STAGES[1:])] == [["CANCELLED"]] * 3
    assert cluster.jobs(jobs["prepare"])[1]["ExitCode"] == "1:0"
    reason = logs(tmp_path, "prepare", jobs["prepare"])[1]
    assert f"error: {TRAINING[1]}: " in reason and "what is named above failed" in reason
    damaged.write_bytes(whole)
    jobs = submit(cluster, tmp_path, data)
    cluster.wait(list(jobs.values()), CHAIN_S)
    assert {state for number in jobs.values() for state in cluster.states(number)} == {"COMPLETED"}
    made = logs(tmp_path, "prepare", jobs["prepare"])
    assert "prepare: 0 made, 2 already there" in made[0] and "prepare: 1 made, 1 already there" in made[1]
    assert read_json(tmp_path / "a run" / "evaluate" / "summary.json")["cases"] == len(TEST)


@pytest.mark.slow
def test_runs_that_are_preempted_go_on_by_themselves_and_end_with_the_same_bits(
    cluster: Cluster,
    source: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    lasting = (f"train.steps={STEPS}", f"train.validate_every_steps={STEPS}")
    jobs = submit(cluster, tmp_path, source, *lasting, FOLDS="0,2")
    wait_for_text(cluster, tmp_path, "train", jobs["train"], "step 20/", tasks=2)
    with pytest.raises(AssertionError, match="has jobs in the queue"):
        submit(cluster, tmp_path, source, *lasting)
    everything = ["--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true"]
    cluster.run("sbatch", *everything)
    cluster.wait(list(jobs.values()), 2 * CHAIN_S)
    assert {state for number in jobs.values() for state in cluster.states(number)} == {"COMPLETED"}
    assert [(job["ArrayTaskId"], job["Restarts"]) for job in cluster.jobs(jobs["train"])] == [("0", "1"), ("2", "1")]
    for text in logs(tmp_path, "train", jobs["train"]):
        assert "asked to stop (USR1)" in text and "back in the queue" in text and "continuing after step" in text
    assert "a run/train/fold0/model" in logs(tmp_path, "infer", jobs["infer"])[0]
    train_alone(cluster, tmp_path, "train.fold=2", *lasting)
    weights = [tmp_path / work / "train" / "fold2" / "model" / "weights.safetensors" for work in ("a run", "alone")]
    assert hash_file(weights[0]) == hash_file(weights[1])


@pytest.mark.slow
def test_two_processes_on_two_nodes_learn_what_one_learns(
    cluster: Cluster,
    source: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    short = ("train.steps=20", "train.log_every_steps=1", "sample.batch=4")
    jobs = submit(cluster, tmp_path, source, *short, TRAIN_NODES="2")
    cluster.wait(list(jobs.values()), CHAIN_S)
    assert {state for number in jobs.values() for state in cluster.states(number)} == {"COMPLETED"}
    (training,) = cluster.jobs(jobs["train"])
    assert (training["NumNodes"], training["NumTasks"]) == ("2", "2")
    assert "2 processes share each batch of 4" in logs(tmp_path, "train", jobs["train"])[0]
    train_alone(cluster, tmp_path, *short)
    together = losses(tmp_path / "a run")
    assert len(together) == 20  # one line a step: the first process alone wrote
    assert together == pytest.approx(losses(tmp_path / "alone"), rel=1e-6)
