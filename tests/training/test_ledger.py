"""What the patches of each training case gave."""

import json

import numpy as np
import pytest

from pipeline.monitor.checkup import TrainingCase
from pipeline.training.ledger import Ledger
from pipeline.training.signs import Overlap

TARGETS = ("bone", "gland")


def overlap(*samples: list[list[int]]) -> Overlap:
    return Overlap({}, TARGETS, np.array(samples))


@pytest.fixture
def ledger() -> Ledger:
    """Three steps of two patches; Dice is measured in the last two."""
    made = Ledger(TARGETS)
    made.add(("b", "a"), (1.0, 3.0), None)
    made.add(("a", "a"), (1.0, 2.0), overlap([[1, 4], [2, 4]], [[0, 0], [0, 0]]))  # 0.5 and 1; nothing there
    made.add(("a", "b"), (4.0, 2.0), overlap([[0, 4], [0, 0]], [[3, 8], [0, 2]]))  # 0; 0.75 and 0
    return made


def test_loss_and_dice_are_means_over_the_patches_of_a_case(ledger: Ledger) -> None:
    assert ledger.cases() == {
        "a": TrainingCase(4, 2.5, (0.75 + 0.0) / 2, 2),
        "b": TrainingCase(2, 1.5, (0.75 + 0.0) / 2, 1),
    }


def test_dice_by_target_is_of_all_patches_together(ledger: Ledger) -> None:
    assert ledger.dice() == {"bone": 2 * 4 / 16, "gland": 2 * 2 / 6}


def test_a_case_whose_patches_were_not_measured_has_no_dice() -> None:
    ledger = Ledger(TARGETS)
    ledger.add(("a",), (1.0,), None)
    assert (ledger.cases(), ledger.dice()) == ({"a": TrainingCase(1, 1.0, None, 0)}, {})


def test_a_saved_ledger_goes_on(ledger: Ledger) -> None:
    again = Ledger.from_json(json.loads(json.dumps(ledger.to_json())))
    for each in (ledger, again):
        each.add(("c", "a"), (0.1, 0.2), overlap([[1, 3], [0, 0]], [[1, 2], [0, 0]]))
    assert (again.cases(), again.dice()) == (ledger.cases(), ledger.dice())


def test_a_cleared_ledger_is_empty(ledger: Ledger) -> None:
    ledger.clear()
    assert (ledger.cases(), ledger.dice()) == ({}, {})
