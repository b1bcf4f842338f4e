"""What the doctor says of trainings, from what they wrote down."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.errors import ExitCode, UserError
from pipeline.files import write_json
from pipeline.monitor.checkup import Checkup, TrainingCase
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.journal import CHECKUPS, FACTS, VITALS, Journal, read_facts
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.vitals import Vitals
from pipeline.stages import doctor_run
from pipeline.training.ending import ending_told

STEPS = 60


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes what a run leaves; sick: steps with a label that belongs to no class."""

    def make(work: str = "work", fold: str = "fold0", sick: range = range(0), not_hu: dict | None = None) -> Path:
        folder = tmp_path / work / "train" / fold
        folder.mkdir(parents=True)
        write_json(folder / "run.json", {})
        facts = RunFacts(
            network="UNet3d", head="softmax", channels=3, classes=("bone", "gland"), targets=("bone", "gland"),
            partners={}, entropy="ce", lr=0.01, warmup_steps=0, batch=2, batch_norm=False, not_hu=not_hu or {},
        )  # fmt: skip
        journal = Journal(folder, facts)
        for step in range(1, STEPS + 1):
            journal.add(vitals(step, sick=step in sick))
        return tmp_path / work

    return make


def vitals(step: int, sick: bool) -> Vitals:
    loss = 1.5 / step
    return Vitals(
        step=step, loss=loss, lr=0.01, grad_norm=0.5, logits_min=-2.0, logits_max=3.0, drawn={"bone": 1, "gland": 1},
        predicted={"background": 0.75, "bone": 0.125, "gland": 0.125}, wait_s=0.0, step_s=0.5, memory_bytes=10**9,
        cases=("a", "b"), parts={"dice": loss, "ce": loss}, losses=(loss, loss), dice={"bone": 0.5, "gland": 0.5},
        strange_labels=(7.0,) if sick else (), image_std=1.0, update_share=0.001,
    )  # fmt: skip


def told(work: Path, capsys: pytest.CaptureFixture[str], *more: object) -> tuple[int, str]:
    """Return the exit code of the command, and its tables with spaces made one."""
    code = cli.main("doctor", ["run", str(work), *map(str, more)])
    return code, " ".join(capsys.readouterr().out.split())


def test_a_healthy_run_is_healthy_and_its_worst_cases_are_named(
    make_run: Callable, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    work = make_run()
    dice = {"bone": 0.5, "gland": 0.5}
    share = {"background": 0.75, "bone": 0.125, "gland": 0.125}
    training = {f"case{i}": TrainingCase(10, 1 + i / 100, 0.5 - i / 100, 5) for i in range(9)}
    training["case9"] = TrainingCase(10, 1.09, None)
    written = Journal(work / "train" / "fold0", read_facts(work / "train" / "fold0"), after_step=STEPS)
    scores = {"dice": dice, "near_dice": dice, "partner_dice": {}, "truth_share": share, "predicted_share": share}
    for step, cases in ((20, {"early": TrainingCase(5, 9.0, 0.0, 5)}), (STEPS - 1, training), (STEPS, {})):
        written.add(Checkup(step, **scores, cases={"c": 0.5}, training_dice=dice, training=cases, present_dice=dice))
    write_json(work / "train" / "fold0" / "done.json", {})
    with caplog.at_level("INFO"):
        code, out = told(work, capsys)
    assert code == ExitCode.DONE
    assert f"{work}/train/fold0: step 60, 3 validations, finished" in caplog.text
    assert "nothing is wrong" in caplog.messages
    loss, _, low = out.partition("training cases of lowest Dice in steps 21 to 60")
    assert [word for word in loss.split() if word.startswith("case") and word[4:].isdigit()] == [
        "case9", "case8", "case7", "case6", "case5",
    ]  # fmt: skip
    assert [word for word in low.split() if word.startswith("case") and word[4:].isdigit()] == [
        "case8", "case7", "case6", "case5", "case4",
    ]  # fmt: skip
    assert "case9 10 1.0900 case8 10 1.0800 0.4200" in loss
    assert "training cases of highest loss in steps 21 to 60" in loss and "early" not in out


def test_a_disease_is_told_with_evidence_cure_and_when(make_run: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = told(make_run(sick=range(33, 61)), capsys)
    assert code == ExitCode.SOME_FAILED
    assert "what when evidence cure" in out
    assert "labels outside" in out and "since step 40" in out
    assert "the values 7" in out and "labels.ignore" in out  # evidence and cure of the rule


def test_a_disease_that_passed_is_told_too(make_run: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    work = make_run(sick=range(3, 5))
    folder = work / "train" / "fold0"
    journal = Journal(folder, read_facts(folder), after_step=STEPS)
    for step in range(STEPS + 1, 200):
        journal.add(vitals(step, sick=False))
    code, out = told(work, capsys)
    assert code == ExitCode.SOME_FAILED
    assert "at step 10, not at the end" in out


def test_all_folds_and_all_work_folders_are_looked_at(
    make_run: Callable, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = make_run()
    make_run(fold="all")
    make_run(fold="fold0-before-20260101-000000", not_hu={"a": "no air"})
    second = make_run("other", not_hu={"a": "no air"})
    with caplog.at_level("INFO"):
        code, _ = told(first, capsys, second)
    assert code == ExitCode.SOME_FAILED
    assert f"sick: {second}/train/fold0" in caplog.messages
    assert [message.split(": ")[0] for message in caplog.messages if "60" in message] == [
        f"{first}/train/all", f"{first}/train/fold0", f"{second}/train/fold0",
    ]  # fmt: skip


def test_a_run_that_goes_on_is_told_with_its_silence(
    make_run: Callable, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    work = make_run()
    file = work / "train" / "fold0" / VITALS
    with file.open("a") as torn:
        torn.write('{"step": 61, "lo')
    an_hour_ago = time.time() - 3600
    for path in file.parent.iterdir():
        os.utime(path, (an_hour_ago, an_hour_ago))
    with caplog.at_level("INFO"):
        assert told(work, capsys)[0] == ExitCode.DONE
    assert "step 60, 0 validations, not finished; last record 60 minutes ago" in caplog.text


def test_a_run_without_a_step_is_well(make_run: Callable, caplog: pytest.LogCaptureFixture) -> None:
    work = make_run()
    (work / "train" / "fold0" / VITALS).write_text("")
    with caplog.at_level("INFO"):
        assert doctor_run.run([work]) == ExitCode.DONE
    assert "no step yet" in caplog.text


def test_a_training_that_has_only_begun_is_named_and_the_others_are_told(
    make_run: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    work = make_run(not_hu={"a": "no air"})
    begun = work / "train" / "fold1"
    begun.mkdir()
    write_json(begun / "run.json", {})
    two_minutes_ago = time.time() - 120
    os.utime(begun / "run.json", (two_minutes_ago, two_minutes_ago))
    with caplog.at_level("INFO"):
        assert doctor_run.run([work]) == ExitCode.SOME_FAILED
    assert f"{begun}: no step yet; begun 2 minutes ago" in caplog.messages
    assert f"sick: {work}/train/fold0" in caplog.messages


def test_where_all_have_only_begun_nothing_is_wrong(tmp_path: Path) -> None:
    write_json(tmp_path / "train" / "fold0" / "run.json", {})
    assert doctor_run.run([tmp_path]) == ExitCode.DONE


def test_a_training_of_an_earlier_version_is_an_error_once_the_others_are_told(
    make_run: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    work = make_run(not_hu={"a": "no air"})
    make_run(fold="fold1")
    for name in (FACTS, VITALS, CHECKUPS):
        (work / "train" / "fold1" / name).unlink()
    (work / "train" / "fold1" / "train.csv").write_text("step,loss\n10,0.5\n")
    with caplog.at_level("INFO"), pytest.raises(UserError, match=r"fold1: no health\.json, .*earlier version"):
        doctor_run.run([work])
    assert f"sick: {work}/train/fold0" in caplog.messages


def test_where_no_run_is_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no training.*; expected a work folder .*run train"):
        doctor_run.run([tmp_path])


def test_a_config_stands_for_its_work_folder(make_run: Callable, tmp_path: Path) -> None:
    work = make_run(not_hu={"a": "no air"})
    config = tmp_path / "mine.yaml"
    config.write_text(f"work: {work}\n")
    assert cli.main("doctor", ["run", str(config)]) == ExitCode.SOME_FAILED
    assert cli.main("doctor", ["run", f"work={work}"]) == ExitCode.SOME_FAILED
    assert (work / "log" / "doctor.log").is_file()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main("doctor", ["run", str(tmp_path / "nowhere")]) == ExitCode.USER_ERROR
    assert "nowhere: there is nothing; expected a work folder, such as runs/demo," in capsys.readouterr().err


@pytest.fixture
def run_folder(make_run: Callable) -> Path:
    """Return the folder of a finished run whose table tells of each tenth step, and of a validation at the end."""
    folder = make_run() / "train" / "fold0"
    write_json(folder / "done.json", {"step": STEPS})
    rows = [f"{step},0.5," for step in (1, *range(10, STEPS + 1, 10))]
    (folder / "train.csv").write_text("\n".join(["step,loss,dice", *rows, f"{STEPS},,0.5"]) + "\n")
    Journal(folder, read_facts(folder), after_step=STEPS).add(
        Checkup(STEPS, dice={}, near_dice={}, partner_dice={}, truth_share={}, predicted_share={}, cases={},
                training_dice={}, training={})
    )  # fmt: skip
    assert doctor_run.run([folder]) == ExitCode.DONE
    return folder


def damage_told(folder: Path) -> str:
    """Return why no verdict is given."""
    with pytest.raises(UserError) as caught:
        doctor_run.run([folder])
    assert str(caught.value).endswith("The training and its model do not need them.")
    return str(caught.value)


def test_records_that_are_missing_are_told_and_nothing_is_called_well(
    run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vitals = run_folder / VITALS
    whole = vitals.read_text()
    vitals.write_text(whole[: whole.index('{"step": 41') + 20])  # torn, as by a copy that was cut off
    with caplog.at_level("INFO"):
        assert f"{vitals}: 20 of 60 records are missing, of step 41 to 60." in damage_told(run_folder)
    assert "nothing is wrong" not in caplog.messages
    assert f"{run_folder}: step 60, 1 validation, finished" in caplog.messages  # done.json knows
    vitals.write_text("")
    assert "60 of 60 records are missing, of step 1 to 60." in damage_told(run_folder)
    vitals.unlink()
    assert "60 of 60 records are missing, of step 1 to 60." in damage_told(run_folder)
    vitals.write_text(whole)
    (run_folder / CHECKUPS).write_text("")
    assert f"{CHECKUPS}: 1 of 1 records are missing, of step 60." in damage_told(run_folder)


@pytest.mark.parametrize("garbage", ['{"step": "x"}', "\0\0\0", "[1]", '{"step": 3, "loss": "low"}'])
def test_lines_that_are_no_records_are_named(run_folder: Path, garbage: str) -> None:
    lines = (run_folder / VITALS).read_text().splitlines()
    (run_folder / VITALS).write_text("\n".join([*lines[:2], garbage, *lines[3:], ""]))
    said = damage_told(run_folder)
    assert f"{VITALS}: line 3 of 60 cannot be read" in said and "1 of 60 records are missing, of step 3." in said
    (run_folder / CHECKUPS).write_text("garbage\n" + (run_folder / CHECKUPS).read_text())
    assert f"{CHECKUPS}: line 1 of 2 cannot be read (not JSON)" in damage_told(run_folder)


def test_what_a_run_found_itself_outlives_its_records(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Journal(run_folder, read_facts(run_folder), STEPS).note(17, [Finding("non-finite loss", "it is nan", "look")])
    (run_folder / VITALS).write_text("")
    (run_folder / FACTS).write_text("{")
    assert f"{FACTS}: cannot be read (JSONDecodeError" in damage_told(run_folder)
    assert "non-finite loss at step 17 it is nan look" in " ".join(capsys.readouterr().out.split())


def test_a_run_that_an_error_ended_is_not_well(make_run: Callable, caplog: pytest.LogCaptureFixture) -> None:
    work = make_run()
    with pytest.raises(MemoryError), ending_told(work / "train/fold0"):
        raise MemoryError
    with caplog.at_level("INFO"):
        assert doctor_run.run([work]) == ExitCode.SOME_FAILED
    assert "step 60, 0 validations, ended by an error: not enough memory" in caplog.text
    assert "nothing is wrong" not in caplog.messages


def test_a_folder_without_a_training_is_an_error_once_the_others_are_told(
    make_run: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "empty").mkdir()
    with caplog.at_level("INFO"), pytest.raises(UserError, match="empty: no training"):
        doctor_run.run([tmp_path / "empty", make_run()])
    assert "fold0: step 60, 0 validations" in caplog.text
