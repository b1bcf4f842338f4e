"""Which folders are trainings, and how each stands."""

import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.errors import Interrupted, UserError
from pipeline.files import read_json, write_json
from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.journal import Records
from pipeline.monitor.vitals import Vitals
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


def silent_for(run: Path, seconds: float, records: Records = NOTHING) -> str:
    """Return how a training stands of which nobody knows whether its process lives, after so many silent seconds."""
    before = time.time() - seconds
    for path in run.iterdir():
        os.utime(path, (before, before))
    return standing_of(run, records).word


def logged(every: int, last: int, step_s: float) -> list[Vitals]:
    """Return the vitals of a run that logs one step in `every`, as they are up to a step."""
    steps = [step for step in range(1, last + 1) if step <= 100 or step % every == 0]
    return [
        Vitals(
            step, 1.0, 0.01, 1.0, -1.0, 1.0, {}, {}, 0.0, step_s, 0, (),
            image_std=1.0 if step <= 50 or step % every == 0 else None,
        )
        for step in steps
    ]  # fmt: skip


def validated(step: int) -> Checkup:
    return Checkup(step, {}, {}, {}, {}, {}, {}, {}, {})


def test_a_training_that_has_long_been_silent_is_not_called_running(run: Path) -> None:
    assert silent_for(run, 299) == "begun"
    assert silent_for(run, 3661) == "silent for 1:01:01"
    assert silent_for(run, 3661, Records(logged(1, 60, 200.0), [])) == "running"  # for less than twenty of its steps


@pytest.mark.parametrize("last", [100, 150, 1000])
def test_silence_is_judged_by_how_far_apart_the_records_are(run: Path, last: int) -> None:
    records = Records(logged(50, last, 10.0), [])  # one in 500 s
    assert silent_for(run, 1400, records) == "running"
    assert silent_for(run, 1600, records) == "silent for 0:26:40"
    assert silent_for(run, 400, Records(logged(10, last, 1.0), [])) == "silent for 0:06:40"


def test_a_training_whose_process_lives_is_running_however_long_it_is_silent(run: Path) -> None:
    Owner(run)
    assert silent_for(run, 86400, Records(logged(10, 200, 1.0), [])) == "running"


@pytest.mark.parametrize(
    ("last", "validations", "validates"),
    [(240, [], False), (250, [], True), (250, [250], False), (490, [250], False), (600, [250, 500], True)],
)
def test_a_training_that_validates_may_be_silent_for_an_hour(
    run: Path, last: int, validations: list[int], validates: bool
) -> None:
    facts = RunFacts("net", "softmax", 2, ("a",), ("a",), {}, None, 0.1, 0, 1, False, {}, steps=600)
    write_json(run / "run.json", {"keys": {"train.validate_every_steps": 250}})
    write_json(run / "health.json", asdict(facts))
    records = Records(logged(5, last, 1.0), [validated(step) for step in validations])
    assert silent_for(run, 3500, records) == ("running" if validates else "silent for 0:58:20")
    assert silent_for(run, 3661, records) == "silent for 1:01:01"


def test_a_validation_is_heard_as_it_scores_cases(run: Path) -> None:
    records = Records(logged(10, 250, 1.0), [])
    assert silent_for(run, 400, records) == "silent for 0:06:40"
    state = run / "state" / "step-000000250"
    state.mkdir(parents=True)
    (state / "validation.json").touch()
    assert standing_of(run, records).word == "running"


def test_the_end_of_a_validation_is_heard(run: Path) -> None:
    records = Records(logged(10, 250, 1.0), [validated(250)])
    (run / "vitals.jsonl").touch()
    assert silent_for(run, 400, records) == "silent for 0:06:40"
    (run / "checkups.jsonl").touch()
    assert standing_of(run, records).word == "running"


def test_a_finished_training_is_done_whatever_was_before(run: Path) -> None:
    end(run, UserError("the disk is full."))
    write_json(run / "done.json", {"step": 1})
    assert standing_of(run, NOTHING).word == "done"
