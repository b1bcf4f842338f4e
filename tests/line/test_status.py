"""The list of trainings, of real ones."""

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config.config import Config
from pipeline.errors import ExitCode, UserError
from pipeline.files import read_json, write_json
from pipeline.stages import status
from pipeline.training.ending import ending_told


@pytest.fixture
def works(trained: Path, tmp_path: Path) -> Path:
    """Return a folder with a finished training, one that seems to go on, and a silent one of another machine."""
    for name in ("finished", "going", "silent"):
        shutil.copytree(trained, tmp_path / "runs" / name)
    for name in ("going", "silent"):
        (tmp_path / "runs" / name / "train/fold0/done.json").unlink()
    silent = tmp_path / "runs/silent/train/fold0"
    write_json(silent / "owner.json", read_json(silent / "owner.json") | {"processes": "elsewhere"})
    before = time.time() - 2 * 3600 - 61
    for file in ("vitals.jsonl", "checkups.jsonl", "run.json"):
        os.utime(silent / file, (before, before))
    return tmp_path / "runs"


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()[2:]]


def test_all_trainings_below_a_folder_are_listed_with_how_they_stand(
    works: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (works / "finished/train/fold0-before-20260101-000000").mkdir()
    shutil.copy(works / "finished/train/fold0/run.json", works / "finished/train/fold0-before-20260101-000000")
    assert status.run(Config(), [works]) == ExitCode.DONE
    finished, going, silent = lines_of(capsys)
    assert [Path(line[0]).parent.parent.name for line in (finished, going, silent)] == ["finished", "going", "silent"]
    assert (finished[1], finished[2]) == ("done", "12/12")
    assert re.fullmatch(r"0\.\d{4} at \d+", finished[3])
    assert (going[1], silent[1]) == ("running", "silent for 2:01:01")
    assert going[5] == "0:00:00"  # none of its 12 steps is left
    assert finished[-1] == "well"


def test_a_training_that_has_just_begun_and_one_of_an_earlier_version_have_a_line(
    works: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train.csv", "vitals.jsonl", "checkups.jsonl", "health.json"):
        (works / "going/train/fold0" / name).unlink()
    for name in ("vitals.jsonl", "checkups.jsonl", "health.json"):
        (works / "silent/train/fold0" / name).unlink()
    assert status.run(Config(), [works / "going", works / "silent"]) == ExitCode.DONE
    going, silent = lines_of(capsys)
    assert going[1:] == ["running", "0/12"]
    assert silent[1:3] == ["silent for 2:01:01", "12/12"]


def test_one_run_with_strange_records_does_not_hide_the_others(works: Path, capsys: pytest.CaptureFixture[str]) -> None:
    health = works / "going/train/fold0/health.json"
    write_json(health, read_json(health) | {"channels": "six", "lr": None})
    assert main("status", [str(works / "going"), str(works / "finished")]) == ExitCode.USER_ERROR
    shown = capsys.readouterr()
    assert "records damaged" in shown.out and "done" in shown.out
    assert f"{health.parent}: its records cannot be read (TypeError" in shown.err


def test_the_command_takes_folders_or_a_config(works: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("status", [str(works / "finished"), str(works / "going")]) == ExitCode.DONE
    assert len(lines_of(capsys)) == 2
    assert main("status", [f"work={works / 'finished'}"]) == ExitCode.DONE
    assert len(lines_of(capsys)) == 1
    assert main("status", [str(works / "finished"), str(works / "finished")]) == ExitCode.DONE
    assert len(lines_of(capsys)) == 1
    assert main("status", [str(works / "nowhere"), str(works / "finished")]) == ExitCode.USER_ERROR
    shown = capsys.readouterr()
    assert "finished" in shown.out and "nowhere: there is nothing" in shown.err
    assert not (works / "finished/log/status.log").exists()


def test_a_training_that_ended_by_an_error_says_why_and_has_no_time_left(
    works: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = works / "going/train/fold0"
    with pytest.raises(MemoryError), ending_told(folder):
        raise MemoryError
    assert status.run(Config(), [works / "going"]) == ExitCode.DONE
    line, why = lines_of(capsys)
    assert (line[1], line[5:]) == ("ended by an error", ["well"])
    assert why[0].startswith(f"{folder} ended by an error: not enough memory")


def test_damaged_records_are_told_below_all_lines(works: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (works / "going/train/fold0/health.json").write_text("{")
    (works / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no training, .*going.*health\.json: cannot be read"):
        status.run(Config(), [works / "empty", works / "going", works / "finished"])
    going, finished = lines_of(capsys)
    assert (going[1:3], going[5:]) == (["running", "12/12"], ["0:00:00", "records damaged"])
    assert finished[-1] == "well"


def test_a_folder_without_a_training_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no training, nor in the folders below"):
        status.run(Config(), [tmp_path])
    assert main("status", [str(tmp_path / "nowhere")]) == ExitCode.USER_ERROR
