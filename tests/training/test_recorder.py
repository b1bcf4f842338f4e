"""What a run writes down."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.monitor.table import read_rows
from pipeline.training.recorder import Recorder
from pipeline.training.step import StepResult
from pipeline.training.validate import Validation

CPU = torch.device("cpu")


@pytest.fixture
def result() -> StepResult:
    logits = torch.zeros(2, 3, 8, 8, 8)
    logits[:, 1, :2] = 1.0  # bone in a quarter of the voxels
    return StepResult(0.75, {"dice": 1.0, "ce": 0.5}, 2.0, 0.0, 1.0, logits)


def test_speeds_are_means_since_the_last_shown_step_and_positives_are_counted(facts, batch, result, tmp_path) -> None:
    recorder = Recorder(tmp_path, facts.head, ["dice", "ce"], CPU, every=4, after_step=0)
    for step in (1, 2, 3, 4):
        recorder.step(step, 4, batch, result, lr=0.01, wait_s=0.1 * step, step_s=0.5)
    recorder.close()
    first, last = read_rows(tmp_path / "train.csv")
    assert (first["step"], last["step"]) == ("1", "4")
    assert float(last["patches_per_second"]) == pytest.approx(3 * 2 / 1.5)
    assert float(last["wait_share"]) == pytest.approx(0.9 / 1.5)
    assert (last["loss"], last["dice_part"], last["ce_part"], last["dice"]) == ("0.75", "1.0", "0.5", "")
    events = EventAccumulator(str(tmp_path)).Reload()
    shown = {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"]}
    assert shown["sample/positives"] == 1
    assert (shown["sample_share/bone"], shown["predicted_share/bone"], shown["predicted_share/background"]) == (
        1.0, 0.25, 0.75,
    )  # fmt: skip


def test_a_score_that_is_no_number_is_left_out(facts, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, facts.head, ["dice"], CPU, every=1, after_step=0)
    seen = Validation({"bone": 0.5, "gland": float("nan")}, 0.5, np.zeros((4, 4, 3), np.uint8))
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


def test_what_was_drawn_is_told_with_the_step_it_was_counted_from(facts, batch, result, tmp_path, caplog) -> None:
    recorder = Recorder(tmp_path, facts.head, ["dice", "ce"], CPU, every=1, after_step=20)
    recorder.step(21, 30, batch, result, lr=0.01, wait_s=0.1, step_s=0.5)
    with caplog.at_level("INFO"):
        recorder.close()
    assert "positive patches by class since step 21: bone 100.0%" in caplog.text
