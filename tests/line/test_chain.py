"""The whole line as its users run it: the shell chain, Ctrl-C and SIGTERM in a stage, the same command again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.files import read_json

from .conftest import SETTINGS, TEST

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "head_neck.yaml")


def environment() -> dict[str, str]:
    return os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}


def test_the_chain_goes_from_cts_to_scores_and_is_quick_to_find_nothing_left_to_do(
    source: Path, tmp_path: Path
) -> None:
    work = tmp_path / "a work folder, größer"
    words = ["bash", str(ROOT / "scripts" / "run_all.sh"), CONFIG, f"data.source={source}", f'work="{work}"', *SETTINGS]
    first = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    summary = read_json(work / "evaluate" / "summary.json")
    assert summary["cases"] == len(TEST)
    assert 0 <= summary["mean"]["dice"] <= 1
    assert sorted(path.name for path in (work / "predict").glob("*.nii.gz")) == [f"{name}.nii.gz" for name in TEST]
    again = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    for line in ("prepare: 0 made, 4 already", "train: 0 made, 1 already", "infer: 0 made, 2 already"):
        assert line in again.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("stage", "marker"), [("prepare", "prepare 1/4"), ("train", "step 2/12"), ("infer", "infer 1/2")]
)
def test_a_stage_that_is_stopped_says_so_and_the_same_command_goes_on(
    stage: str, marker: str, number: signal.Signals, source: Path, trained: Path, store: Path, tmp_path: Path
) -> None:
    words = [sys.executable, str(ROOT / "scripts" / f"{stage}.py"), CONFIG, f"data.source={source}", *SETTINGS]
    words += [f'work="{tmp_path / "work"}"', f'infer.model="{trained / "train/fold0/model"}"', "infer.overlap=0.5"]
    if stage == "train":
        words.append(f'data.store="{store}"')
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if marker in line:
            process.send_signal(number)
            break
    rest = process.stderr.read()
    assert process.wait() == 75, rest
    assert "run the same command again" in rest
    assert not list(tmp_path.rglob(".partial-*"))
    again = subprocess.run(words, env=environment(), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr


def test_a_failing_stage_ends_the_chain_with_its_exit_code(source: Path, tmp_path: Path) -> None:
    words = [
        "bash",
        str(ROOT / "scripts" / "run_all.sh"),
        CONFIG,
        f"data.source={source}",
        f"work={tmp_path}",
        "net.name=UNett3d",
    ]
    result = subprocess.run([*words, *SETTINGS], env=environment(), capture_output=True, text=True)
    assert result.returncode == 2
    assert "UNet3d" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "predict").exists()


def test_times_and_memory_of_a_finished_line_are_told(source: Path, tmp_path: Path) -> None:
    for stage in ("prepare", "train", "infer", "evaluate"):
        words = [
            sys.executable,
            str(ROOT / "scripts" / f"{stage}.py"),
            CONFIG,
            f"data.source={source}",
            f"work={tmp_path}",
        ]
        subprocess.run([*words, *SETTINGS, "train.steps=3"], env=environment(), check=True, capture_output=True)
    bench = [sys.executable, str(ROOT / "bench" / "stages.py"), str(tmp_path)]
    told = subprocess.run(bench, check=True, capture_output=True, text=True).stdout
    for stage in ("prepare", "train", "predict", "evaluate"):
        assert stage in told
