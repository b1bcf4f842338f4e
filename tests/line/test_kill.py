"""A training that is killed at any moment ends with the bits of one that was left alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.kill_run import STEPS, differences, run_folder
from pipeline.monitor.board import Board

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Return the work folder of 6 SIGKILLs and 6 SIGTERMs, and how they ended."""
    work = tmp_path_factory.mktemp("kills")
    words = [sys.executable, str(ROOT / "bench" / "kill.py"), "--kills", "6", "--work", str(work)]
    return work, subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_training_that_is_killed_twelve_times_ends_with_the_bits_of_one_left_alone(
    kills: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, ended = kills
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "12 kills in" in ended.stdout


def one_bit(run: Path, name: str) -> None:
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def one_row_less(run: Path, name: str) -> None:
    (run / name).write_text("".join((run / name).read_text().splitlines(keepends=True)[:-1]))


def one_finding_more(run: Path, name: str) -> None:
    with (run / name).open("a") as file:
        file.write(
            json.dumps({"step": STEPS, "name": "over-fitting", "evidence": "", "cure": "", "fatal": False}) + "\n"
        )


def one_point_more(run: Path, curve: str) -> None:
    board = Board(run, after_step=STEPS)
    board.scalars({curve: 1.0}, STEPS)
    board.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (one_bit, "state/step-000000100/tensors.safetensors"),
        (one_bit, "model/weights.safetensors"),
        (one_row_less, "train.csv"),
        (one_row_less, "checkups.jsonl"),
        (one_finding_more, "findings.jsonl"),
        (one_point_more, "dice/mean"),
        (lambda run, name: (run / name).touch(), ".partial-0-0-left"),
    ],
)
def test_what_the_comparison_calls_the_same_has_no_difference(
    kills: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, damage: object, name: str
) -> None:
    alone = kills[0] / "alone"
    shutil.copytree(alone, tmp_path / "copy")
    assert list(differences(tmp_path / "copy", alone)) == []
    damage(run_folder(tmp_path / "copy"), name)  # type: ignore[operator]
    (told,) = differences(tmp_path / "copy", alone)
    assert name in told
