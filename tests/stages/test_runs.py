"""Which folders are trainings, and how each stands."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import Interrupted, UserError
from pipeline.files import read_json, write_json
from pipeline.monitor.journal import Records
from pipeline.stages.runs import runs_under, standing_of
from pipeline.training.ending import ending_told
from pipeline.training.owner import Owner

NOTHING = Records([], [])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "work/train/fold0"
    write_json(folder / "run.json", {})
    return folder


def end(run: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), ending_told(run):
        raise error


def test_a_training_is_found_from_itself_and_from_the_folders_above_it(run: Path, tmp_path: Path) -> None:
    for folder in (run, run.parent, run.parent.parent, tmp_path):
        assert runs_under(folder) == [run]


def test_a_training_whose_folder_is_still_empty_is_one_and_other_folders_are_not(run: Path) -> None:
    for name in ("fold1", "all", "log", "fold2-before-20260101-000000", "folder"):
        (run.parent / name).mkdir()
    write_json(run.parent / "fold0-before-20260101-000000" / "run.json", {})
    (run.parent / "fold3").write_text("a file")
    assert [path.name for path in runs_under(run.parent.parent)] == ["all", "fold0", "fold1"]
    begun = standing_of(run.parent / "fold1", NOTHING)
    assert begun.word == "begun" and begun.sentence.startswith("begun ")


def test_a_folder_without_a_training_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train/images").mkdir(parents=True)
    (tmp_path / "train/images/scan.nii.gz").write_text("")
    with pytest.raises(UserError, match="no training, nor in the folders below"):
        runs_under(tmp_path)


def test_a_training_that_an_error_ended_says_why(run: Path) -> None:
    end(run, UserError("the disk is full."))
    standing = standing_of(run, NOTHING)
    assert (standing.word, standing.running, standing.failed) == ("ended by an error", False, True)
    assert standing.sentence == "ended by an error: the disk is full."


@pytest.mark.parametrize("error", [Interrupted("stopped by SIGTERM"), KeyboardInterrupt()])
def test_a_training_that_was_asked_to_stop_goes_on_with_the_same_command(run: Path, error: BaseException) -> None:
    end(run, error)
    standing = standing_of(run, NOTHING)
    assert (standing.word, standing.running, standing.failed) == ("interrupted", False, False)
    assert standing.sentence == "interrupted; the same command goes on"


def test_a_training_whose_process_is_gone_was_killed(run: Path) -> None:
    Owner(run)
    assert standing_of(run, NOTHING).running  # this process
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owner = read_json(run / "owner.json")
    write_json(run / "owner.json", owner | {"process": gone.pid})
    standing = standing_of(run, NOTHING)
    assert (standing.word, standing.running, standing.failed) == ("killed", False, False)
    assert "the same command goes on" in standing.sentence
    write_json(run / "owner.json", owner | {"process": gone.pid, "processes": "elsewhere"})
    assert standing_of(run, NOTHING).running  # nobody knows here


def test_a_training_that_has_long_been_silent_is_not_called_running(run: Path) -> None:
    before = time.time() - 3661
    os.utime(run / "run.json", (before, before))
    assert standing_of(run, NOTHING).word == "silent for 1:01:01"
    assert standing_of(run, NOTHING, step_s=200.0).running  # for less than twenty of its steps


def test_a_finished_training_is_done_whatever_was_before(run: Path) -> None:
    end(run, UserError("the disk is full."))
    write_json(run / "done.json", {"step": 1})
    assert standing_of(run, NOTHING).word == "done"
