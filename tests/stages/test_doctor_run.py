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
from pipeline.monitor.journal import FACTS, VITALS, Journal
from pipeline.monitor.vitals import Vitals
from pipeline.stages import doctor_run

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
    written = Journal(work / "train" / "fold0", doctor_run.read_facts(work / "train" / "fold0"), after_step=STEPS)
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
    journal = Journal(folder, doctor_run.read_facts(folder), after_step=STEPS)
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
    os.utime(file, (an_hour_ago, an_hour_ago))
    with caplog.at_level("INFO"):
        assert told(work, capsys)[0] == ExitCode.DONE
    assert "step 60, 0 validations, not finished; last record 60 minutes ago" in caplog.text


def test_a_run_without_a_step_is_well(make_run: Callable, caplog: pytest.LogCaptureFixture) -> None:
    work = make_run()
    (work / "train" / "fold0" / VITALS).write_text("")
    with caplog.at_level("INFO"):
        assert doctor_run.run([work]) == ExitCode.DONE
    assert "no step yet" in caplog.text


def test_where_no_run_is_the_sentence_says_what_to_do(make_run: Callable, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no training; expected a work folder .*run train"):
        doctor_run.run([tmp_path])
    work = make_run()
    (work / "train" / "fold0" / FACTS).unlink()
    with pytest.raises(UserError, match=r"no health\.json, .*earlier version"):
        doctor_run.run([work])


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
