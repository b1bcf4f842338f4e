"""What a run writes down."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.head import Head
from pipeline.labels import Labels, Region
from pipeline.monitor.checkup import TrainingCase
from pipeline.monitor.curves import column_of
from pipeline.monitor.journal import read_journal, read_records
from pipeline.monitor.table import read_rows
from pipeline.training.step import Drawn, StepResult
from pipeline.training.validate import Validation


@pytest.fixture
def result() -> StepResult:
    logits = torch.zeros(2, 3, 8, 8, 8)
    logits[:, 1, :2] = 1.0  # bone in a quarter of the voxels
    drawn = drawn_of(["case_0", "case_1"])
    return StepResult(0.75, {"dice": 1.0, "topk": 0.5}, 2.0, 0.0, 1.0, logits, (0.5, 1.0), drawn)


def test_speeds_are_means_since_the_last_shown_step_and_positives_are_counted(
    facts, batch, result, make_recorder, tmp_path
) -> None:
    recorder = make_recorder(tmp_path, facts.head, every=4)
    for step in (1, 2, 3, 4):
        recorder.step(step, 4, batch, result, lr=0.01, wait_s=0.1 * step, step_s=0.5)
    recorder.close()
    first, last = read_rows(tmp_path / "train.csv")
    assert (first["step"], last["step"]) == ("1", "4")
    assert float(last["patches_per_second"]) == pytest.approx(3 * 2 / 1.5)
    assert float(last["wait_share"]) == pytest.approx(0.9 / 1.5)
    assert (last["loss"], last["dice_part"], last["topk_part"], last["dice"]) == ("0.75", "1.0", "0.5", "")
    events = EventAccumulator(str(tmp_path)).Reload()
    shown = {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"]}
    assert shown["health/positives"] == 1
    assert (shown["positive_share/bone"], shown["predicted_share/bone"], shown["predicted_share/background"]) == (
        1.0, 0.25, 0.75,
    )  # fmt: skip


def test_a_score_that_is_no_number_is_left_out(facts, make_recorder, tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path, facts.head)
    seen = Validation({"bone": 0.5, "gland": float("nan")}, 0.5, {})
    recorder.validation(7, seen)
    recorder.validation(8, replace(seen, dice={"bone": float("nan"), "gland": float("nan")}, mean=float("nan")))
    recorder.close()
    rows = [
        {key: row[key] for key in ("step", "dice", "dice bone", "dice gland")}
        for row in read_rows(tmp_path / "train.csv")
    ]
    assert [tuple(row.values()) for row in rows] == [("7", "0.5", "0.5", ""), ("8", "", "", "")]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["scalars"]) == ["dice/bone", "dice/mean"]


def test_a_head_of_regions_has_a_column_a_region(facts, make_recorder, tmp_path: Path) -> None:
    labels = Labels(facts.labels.values, (Region("body", ("bone", "gland"), "bone"),))
    recorder = make_recorder(tmp_path, Head("regions", labels))
    recorder.validation(7, Validation({"body": 0.5}, 0.5, {}))
    recorder.close()
    (row,) = read_rows(tmp_path / "train.csv")
    assert {key: value for key, value in row.items() if key.startswith("dice ")} == {"dice body": "0.5"}


def test_the_table_and_the_board_hold_the_same_numbers(facts, batch, result, make_recorder, tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path, facts.head, every=2)
    for step in range(1, 5):
        given = replace(result, loss=1 / step, update_share=0.1 * step)
        recorder.step(step, 4, batch, given, lr=0.01 / step, wait_s=0.1, step_s=0.3 * step)
    recorder.validation(4, Validation({"bone": 0.7, "gland": float("nan")}, 0.7, {}))
    recorder.step(5, 5, batch, replace(result, loss=float("nan")), lr=0.01, wait_s=0.1, step_s=0.5, last=True)
    recorder.close()
    table: dict[str, list[tuple[int, float]]] = {}
    for row in read_rows(tmp_path / "train.csv"):
        for column, cell in row.items():
            if cell and column != "step":
                table.setdefault(column, []).append((int(row["step"]), np.float32(cell)))
    events = EventAccumulator(str(tmp_path)).Reload()
    curves = events.Tags()["scalars"]
    board = {column_of(name): [(point.step, point.value) for point in events.Scalars(name)] for name in curves}
    np.testing.assert_equal(board, table)
    assert [step for step, _ in board["loss"]] == [1, 2, 4, 5] and [step for step, _ in board["dice bone"]] == [4]
    assert len(board) == len(curves) == len(table) > 15


def drawn_of(cases):
    """Return where two patches came from; the first one is positive."""
    return tuple(Drawn(case, label) for case, label in zip(cases, (1, None), strict=True))


def step_of(result, *cases):
    """Return the result of a step with patches of these cases."""
    return replace(result, drawn=drawn_of(cases))


def test_shares_by_class_and_case_are_told_with_the_step_they_were_counted_from(
    facts, batch, result, make_recorder, tmp_path, caplog
) -> None:
    recorder = make_recorder(tmp_path, facts.head, cases=("a", "b", "c"), after_step=20)
    with caplog.at_level("INFO"):
        for step, cases in ((21, "bb"), (22, "ab")):
            recorder.step(step, 30, batch, step_of(result, *cases), lr=0.01, wait_s=0.1, step_s=0.5)
        recorder.validation(22, None)
        recorder.close()
    assert "positive patches by class since step 21: bone 100.0%, gland 0.0%" in caplog.messages
    assert "patches by case since step 21: b 75.0%, a 25.0%, c 0.0%" in caplog.messages
    events = EventAccumulator(str(tmp_path)).Reload()
    (shown,) = events.Tensors("cases/most_drawn/text_summary")
    assert shown.step == 22
    assert b"of 3 cases since step 21" in shown.tensor_proto.string_val[0]
    assert b"| b | 75.0% |\n| a | 25.0% |\n| c | 0.0% |" in shown.tensor_proto.string_val[0]
    assert events.Scalars("health/largest_case_share")[-1].value == 0.75
    (spread,) = events.Histograms("cases/patches")
    assert (spread.histogram_value.num, spread.histogram_value.sum, spread.histogram_value.max) == (3, 4, 3)


def test_of_very_many_cases_ten_are_named_and_so_is_each_that_supplies_over_a_tenth(
    facts, batch, result, make_recorder, tmp_path, caplog
) -> None:
    names = [f"case{i:04d}" for i in range(1000)]
    recorder = make_recorder(tmp_path, facts.head, cases=names)
    for step in range(1, 10):
        recorder.step(step, 9, batch, step_of(result, "case0500", names[step]), lr=0.01, wait_s=0.1, step_s=0.5)
    with caplog.at_level("INFO"):
        recorder.close()
    (told,) = [message for message in caplog.messages if message.startswith("patches by case")]
    assert told.startswith("patches by case since step 1: case0500 50.0%, case0001 5.6%") and told.count("case0") == 10
    assert told.endswith("; the most drawn of 1000")
    assert "over a tenth of all patches came from each of: case0500 50.0%" in caplog.messages
    assert len(EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]) < 30


def test_a_resumed_run_tells_what_was_drawn_before_and_counts_on(
    facts, batch, result, make_recorder, tmp_path, caplog
) -> None:
    first = make_recorder(tmp_path, facts.head, cases=("a", "b"))
    first.step(1, 3, batch, step_of(result, "a", "a"), lr=0.01, wait_s=0.1, step_s=0.5)
    again = make_recorder(tmp_path, facts.head, cases=("a", "b"), after_step=1)
    with caplog.at_level("INFO"):
        again.resume(first.state())
    assert "patches by case since step 1: a 100.0%, b 0.0%" in caplog.messages
    again.step(2, 3, batch, step_of(result, "b", "b"), lr=0.01, wait_s=0.1, step_s=0.5)
    assert again.tally.case_shares() == {"a": 0.5, "b": 0.5}


def outside(batch):
    """Return a batch with a label that belongs to no class."""
    labels = batch.labels.clone()
    labels[0, 0, 0, 0] = 9
    return replace(batch, labels=labels)


def test_steps_are_written_down_with_what_rules_look_at(facts, batch, result, make_recorder, tmp_path) -> None:
    recorder = make_recorder(tmp_path, facts.head, every=40)
    for step in range(1, 131):
        recorder.step(step, 130, batch, result, lr=0.01, wait_s=0.1, step_s=float(step))
    recorder.close()
    vitals = read_records(tmp_path).vitals
    assert [record.step for record in vitals] == [*range(1, 101), 120]
    assert [record.step for record in vitals if record.image_std is not None] == [*range(1, 51), 80, 120]
    seen = [*recorder.watchdog.first, *recorder.watchdog.recent]
    assert [record.step for record in seen if record.predicted] == [1, 10, 20, 30, 40, 50, 80, 120]
    last = vitals[-1]
    assert (last.losses, last.cases, last.wait_s) == ((0.5, 1.0), ("case_0", "case_1"), pytest.approx(0.1))
    assert last.step_s == pytest.approx(sum(range(101, 121)) / 20)
    # bone, 27 voxels a patch, is predicted in the first two of eight layers, of which the truth has none
    assert seen[-1].dice == {"bone": 0.0}
    assert last.image_std == pytest.approx(float(batch.image.std()))
    assert last.strange_labels == ()


def test_a_validation_is_written_down_with_what_training_gave_since_the_last(
    facts, batch, result, make_recorder, tmp_path
) -> None:
    recorder = make_recorder(tmp_path, facts.head)
    recorder.step(1, 4, batch, step_of(result, "case_0", "case_0"), lr=0.01, wait_s=0.1, step_s=0.5)
    nowhere = {"bone": 0.5, "gland": float("nan")}
    share = {"background": 1.0, "bone": 0.0, "gland": 0.0}
    seen = Validation(
        nowhere, 0.5, {}, near_dice=nowhere, partner_dice={}, truth_share=share,
        predicted_share=share, cases={"case_9": 0.5, "case_8": float("nan")},
    )  # fmt: skip
    recorder.validation(1, seen)
    recorder.step(2, 4, batch, result, lr=0.01, wait_s=0.1, step_s=0.5)
    recorder.validation(2, None)
    recorder.close()
    first, second = read_records(tmp_path).checkups
    assert (first.step, first.dice, first.near_dice, first.cases) == (1, {"bone": 0.5}, {"bone": 0.5}, {"case_9": 0.5})
    assert first.training == {"case_0": TrainingCase(2, 0.75, 0.0, 2)} and first.training_dice == {"bone": 0.0}
    assert (second.dice, second.truth_share, second.cases) == ({}, {}, {})
    assert second.training == {"case_0": TrainingCase(1, 0.5, 0.0, 1), "case_1": TrainingCase(1, 1.0, 0.0, 1)}


def test_what_is_wrong_is_told_once_in_the_log_and_on_the_board(
    facts, batch, result, make_recorder, tmp_path, caplog
) -> None:
    recorder = make_recorder(tmp_path, facts.head, every=10)
    with caplog.at_level("WARNING"):
        for step in range(1, 41):
            recorder.step(step, 40, outside(batch), result, lr=0.01, wait_s=0.1, step_s=0.5)
    (finding,) = recorder.watchdog.findings
    step = recorder.watchdog.noticed[0].step
    assert [message for message in caplog.messages if finding.name in message] == [f"step {step}: {finding}"]
    recorder.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (told,) = events.Tensors("findings_of_steps/text_summary")
    assert told.step == step and finding.name.encode() in told.tensor_proto.string_val[0]
    assert [event.value for event in events.Scalars("health/findings")][-1] == 1


def test_a_resumed_run_remembers_what_was_wrong_and_says_so(
    facts, batch, result, make_recorder, tmp_path, caplog
) -> None:
    first = make_recorder(tmp_path, facts.head)
    for step in range(1, 31):
        first.step(step, 40, outside(batch), result, lr=0.01, wait_s=0.1, step_s=0.5)
    with caplog.at_level("WARNING"):
        again = make_recorder(tmp_path, facts.head, after_step=20)
    assert again.watchdog.findings == first.watchdog.findings
    assert f"step 20: {again.watchdog.standing[0]}" in caplog.messages
    assert [record.step for record in read_records(tmp_path).vitals] == [*range(1, 21)]
    again.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [told.step for told in events.Tensors("findings_of_steps/text_summary")] == [first.watchdog.noticed[0].step]


@pytest.mark.parametrize("stopped", [13, 15, 20, 25])
def test_what_goes_wrong_shortly_before_a_stop_is_noted_at_the_step_at_which_a_run_left_alone_notes_it(
    facts, batch, result, make_recorder, tmp_path, stopped
) -> None:
    def go_on(recorder, first: int, last: int) -> None:
        for step in range(first, last + 1):
            drawn = outside(batch) if step >= 13 else batch
            recorder.step(step, 40, drawn, result, lr=0.01, wait_s=0.1, step_s=0.5)
        recorder.close()

    go_on(make_recorder(tmp_path / "alone", facts.head), 1, 40)
    go_on(make_recorder(tmp_path / "stopped", facts.head), 1, stopped)
    go_on(make_recorder(tmp_path / "stopped", facts.head, after_step=stopped), stopped + 1, 40)
    alone, again = (read_journal(tmp_path / name).noticed for name in ("alone", "stopped"))
    assert again == alone and [noticed.step for noticed in alone] == [20]


def test_what_was_written_down_is_on_disk_before_the_state_is(
    facts, batch, result, make_recorder, tmp_path, monkeypatch
) -> None:
    on_disk: dict[int, int] = {}  # bytes by the number of the file
    names: set[str] = set()
    real = os.fsync

    def noting(descriptor: int) -> None:
        real(descriptor)
        status = os.fstat(descriptor)
        on_disk[status.st_ino] = status.st_size
        if status.st_ino == tmp_path.stat().st_ino:
            names.update(path.name for path in tmp_path.iterdir())

    monkeypatch.setattr(os, "fsync", noting)
    recorder = make_recorder(tmp_path, facts.head)
    for step in range(1, 31):
        recorder.step(step, 40, outside(batch), result, lr=0.01, wait_s=0.1, step_s=0.5)
    recorder.validation(30, Validation({"bone": 0.5, "gland": 0.5}, 0.5, {}))
    assert read_journal(tmp_path).noticed and read_records(tmp_path).checkups
    recorder.state()
    written = {path.name: path.stat() for path in tmp_path.iterdir()}
    assert len(written) == 6 and {"train.csv", "vitals.jsonl", "checkups.jsonl", "findings.jsonl"} < written.keys()
    assert written.keys() <= names
    assert {name: on_disk.get(file.st_ino) for name, file in written.items()} == {
        name: file.st_size for name, file in written.items()
    }
    recorder.close()
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {
        name: file.st_size for name, file in written.items()
    }  # nothing was still in memory


def test_a_file_that_was_removed_does_not_keep_a_state_from_being_saved(
    facts, batch, result, make_recorder, tmp_path
) -> None:
    recorder = make_recorder(tmp_path, facts.head)
    (tmp_path / "checkups.jsonl").unlink()
    recorder.step(1, 3, batch, result, lr=0.01, wait_s=0.1, step_s=0.5)
    assert recorder.state()["drawn"]


def test_what_training_gave_is_counted_on_after_a_resume(facts, batch, result, make_recorder, tmp_path) -> None:
    whole, first = (make_recorder(tmp_path / name, facts.head) for name in ("whole", "parts"))
    for recorder in (whole, first):
        recorder.step(1, 2, batch, result, lr=0.01, wait_s=0.1, step_s=0.5)
    again = make_recorder(tmp_path / "parts", facts.head, after_step=1)
    again.resume(first.state())
    for recorder in (whole, again):
        recorder.step(2, 2, batch, result, lr=0.01, wait_s=0.1, step_s=0.5)
    assert again.ledger.cases() == whole.ledger.cases() and again.ledger.dice() == whole.ledger.dice()
    assert again.ledger.cases()["case_0"].patches == 2
