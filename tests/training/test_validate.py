"""Scores of whole held-out volumes."""

import math
import random
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config.infer import InferSection
from pipeline.errors import Interrupted, Superseded
from pipeline.head import Head
from pipeline.labels import Labels, Region
from pipeline.report.overlay import overlay_png
from pipeline.training.scored_cases import FILE, ScoredCases
from pipeline.training.validate import validate
from pipeline.volume.volume import Volume

CPU = torch.device("cpu")


def block(shape, label, size):
    labels = np.zeros(shape, np.uint8)
    labels[2 : 2 + size, 2 : 2 + size, 3 : 3 + size] = label
    return labels


def test_dice_is_averaged_over_the_classes_of_a_case_then_over_cases(net, facts, make_case) -> None:
    both = block((14, 12, 10), 1, 3)
    both[8:11, 2:5, 3:6] = 2
    cases = [make_case("both", both), make_case("bone", block((9, 9, 9), 1, 4))]
    result = validate(net, cases, facts, InferSection(), CPU, lambda: None)
    # Bone is found exactly; the gland is missed where it is, and does not count where it is not.
    assert result.dice == {"bone": 1.0, "gland": 0.0}
    assert result.mean == (0.5 + 1.0) / 2


def test_the_first_two_cases_are_drawn_and_nothing_else_changes(net, facts, make_case) -> None:
    cases = [make_case(name, block((14, 12, 10), 1, size)) for name, size in (("a", 3), ("b", 4), ("c", 5))]
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    randomness = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    result = validate(net, cases, facts, InferSection(), CPU, lambda: None)
    assert random.getstate() == randomness[0] and np.random.get_state()[1].tolist() == randomness[1]
    assert torch.equal(torch.get_rng_state(), randomness[2])
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    # The prediction is the truth, as the block is bone.
    drawn = {
        c.name: overlay_png(Volume(c.image, c.grid), c.labels, c.labels, ("bone", "gland"), (0, 1000)) for c in cases
    }
    assert result.overlays == {name: drawn[name] for name in "ab"}


def test_signs_of_health_are_gathered_over_cases(net, facts, make_case) -> None:
    both = block((14, 12, 10), 1, 3)
    both[8:11, 2:5, 3:6] = 2
    cases = [make_case("both", both), make_case("bone", block((9, 9, 9), 1, 4))]
    result = validate(net, cases, facts, InferSection(), CPU, lambda: None)
    assert result.near_dice == {"bone": 1.0, "gland": 0.0}
    assert result.present_dice == {"bone": 1.0, "gland": 0.0}
    assert result.partner_dice == {}
    assert result.cases == {"both": 0.5, "bone": 1.0}
    voxels = 14 * 12 * 10 + 9**3
    assert result.truth_share == pytest.approx(
        {"background": 1 - (27 + 27 + 64) / voxels, "bone": (27 + 64) / voxels, "gland": 27 / voxels}
    )
    assert result.predicted_share == pytest.approx(
        {"background": 1 - (27 + 64) / voxels, "bone": (27 + 64) / voxels, "gland": 0.0}
    )


def test_a_false_voxel_in_a_case_without_the_target_counts_in_dice_and_not_where_it_is_present(
    net, facts, make_case
) -> None:
    bone = block((9, 9, 9), 1, 4)
    lacking = replace(make_case("lacking", bone), labels=np.zeros((9, 9, 9), np.uint8))  # bone that is not labelled
    result = validate(net, [make_case("bone", bone), lacking], facts, InferSection(), CPU, lambda: None)
    assert (result.dice["bone"], result.present_dice["bone"], result.near_dice["bone"]) == (0.5, 1.0, 1.0)
    assert math.isnan(result.present_dice["gland"])


class Foreground(nn.Module):
    """The channels of another network without the first one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image)[:, 1:]


def test_a_head_of_regions_is_scored_by_region(net, facts, make_case) -> None:
    regions = (Region("body", ("bone", "gland"), "bone"), Region("soft", ("gland",), "gland"))
    labels = Labels(facts.labels.values, regions)
    facts = replace(facts, head=Head("regions", labels), labels=labels)
    both = block((14, 12, 10), 1, 3)
    both[8:11, 2:5, 3:6] = 2
    cases = [make_case("both", both), make_case("bone", block((9, 9, 9), 1, 4))]
    result = validate(Foreground(net), cases, facts, InferSection(), CPU, lambda: None)
    # In the first case half of the body, 27 of 54 voxels, is found: Dice 2 * 27 / (54 + 27).
    assert result.dice == {"body": pytest.approx((2 / 3 + 1) / 2), "soft": 0.0}
    assert result.mean == pytest.approx(((2 / 3 + 0) / 2 + 1) / 2)


def test_without_any_class_there_is_no_mean(net, facts, make_case) -> None:
    result = validate(net, [make_case("empty", np.zeros((9, 9, 9)))], facts, InferSection(), CPU, lambda: None)
    assert math.isnan(result.mean) and all(math.isnan(value) for value in result.dice.values())


def test_it_ends_where_its_check_raises(net, facts, make_case) -> None:
    def stop() -> None:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        validate(net, [make_case("bone", block((9, 9, 9), 1, 4))], facts, InferSection(), CPU, stop)


def three(make_case):
    return [make_case(name, block((14, 12, 10), 1, size)) for name, size in (("a", 3), ("b", 4), ("c", 5))]


def counted(net, facts, cases, state):
    """Validate, and return the result and how many groups of windows were predicted for it."""
    seen = []
    return validate(net, cases, facts, InferSection(), CPU, lambda: seen.append(1), known=ScoredCases(state)), len(seen)


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr("pipeline.training.scored_cases.EVERY_S", 0.0)


def check_same(first, second):
    for field in fields(first):
        np.testing.assert_equal(getattr(second, field.name), getattr(first, field.name))


def test_an_interrupted_validation_goes_on_after_the_cases_it_has_scored(net, facts, make_case, tmp_path, caplog):
    cases = three(make_case)
    alone, groups = counted(net, facts, cases, None)
    left = groups * 2 // 3  # the third case is begun then

    def check():
        nonlocal left
        left -= 1
        if left < 0:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        validate(net, cases, facts, InferSection(), CPU, check, known=ScoredCases(tmp_path))
    with caplog.at_level("INFO", logger="hounsfield"):
        result, again = counted(net, facts, cases, tmp_path)
    assert again == groups // 3
    check_same(alone, result)
    assert "the validation goes on; scored before: a, b\n" in caplog.text


@pytest.mark.parametrize(
    "old, new", [('"bone": 1.0', '"bone": 0.5'), ('"cases"', '"kases"'), ('version": 1', 'version": 2'), ("{", "")]
)
def test_altered_scores_are_not_believed(net, facts, make_case, tmp_path, at_once, caplog, old, new):
    cases = three(make_case)
    alone, groups = counted(net, facts, cases, tmp_path)
    file = tmp_path / FILE
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    result, again = counted(net, facts, cases, tmp_path)
    assert again == groups
    check_same(alone, result)
    assert "the validation begins anew, as what is kept of it cannot be read" in caplog.text


def test_a_short_validation_writes_nothing(net, facts, make_case, tmp_path):
    counted(net, facts, three(make_case), tmp_path)
    assert not list(tmp_path.iterdir())


def test_each_case_is_written_where_they_take_long(net, facts, make_case, tmp_path, at_once):
    cases = three(make_case)
    alone, _ = counted(net, facts, cases, tmp_path)
    result, again = counted(net, facts, cases, tmp_path)
    assert again == 0
    check_same(alone, result)


def test_what_cannot_be_written_is_told_and_ends_nothing(net, facts, make_case, tmp_path, at_once, caplog):
    no_folder = tmp_path / "file"
    no_folder.touch()
    cases = three(make_case)
    alone, _ = counted(net, facts, cases, None)
    check_same(alone, counted(net, facts, cases, no_folder)[0])
    assert "validation.json: not written, so that these cases are scored again after an interruption" in caplog.text


def test_a_run_that_was_taken_over_writes_nothing(net, facts, make_case, tmp_path, at_once):
    def taken_over():
        raise Superseded("taken over")

    known = ScoredCases(tmp_path, check=taken_over)
    with pytest.raises(Superseded):
        validate(net, three(make_case), facts, InferSection(), CPU, lambda: None, known=known)
    assert not list(tmp_path.iterdir())


def test_scores_of_other_tensors_are_not_read(tmp_path, caplog):
    known = ScoredCases(tmp_path, "abc")
    known.add({"a": 1})
    known.write()
    assert ScoredCases(tmp_path, "abc").cases == {"a": 1}
    assert ScoredCases(tmp_path, "abd").cases == {}
    assert "altered, or of another state or version" in caplog.text
