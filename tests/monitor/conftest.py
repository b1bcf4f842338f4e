"""Records of runs that never were."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.monitor.checkup import Checkup, TrainingCase
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.vitals import Vitals

WELL = Vitals(
    step=1, loss=1.0, lr=0.01, grad_norm=0.5, logits_min=-2.0, logits_max=3.0, drawn={"bone": 1, "gland": 0},
    predicted={"background": 0.75, "bone": 0.25, "gland": 0.0}, wait_s=0.01, step_s=0.5, memory_bytes=10**9,
    cases=("a", "b"), parts={"dice": 1.0, "ce": 1.0}, losses=(0.75, 1.25), dice={"bone": 0.5}, image_std=1.0,
    update_share=0.001,
)  # fmt: skip


@pytest.fixture
def facts() -> RunFacts:
    return RunFacts(
        network="UNet3d", head="softmax", channels=3, classes=("bone", "gland"), targets=("bone", "gland"),
        partners={}, entropy="ce", lr=0.01, warmup_steps=0, batch=2, batch_norm=False, not_hu={"a": "no air"},
    )  # fmt: skip


@pytest.fixture
def well() -> Callable[..., Vitals]:
    """Return a function of a step, and what is unusual in it, to its vitals."""

    def make(step: int, **unusual: Any) -> Vitals:
        return replace(WELL, step=step, **{"loss": 1 / step, **unusual})

    return make


@pytest.fixture
def outside(well: Callable[..., Vitals]) -> Callable[[int], Vitals]:
    """Return a function of a step to vitals with a label that belongs to no class."""
    return lambda step: well(step, strange_labels=(7.0,))


@pytest.fixture
def checkup() -> Checkup:
    dice = {"bone": 0.5, "gland": 0.25}
    return Checkup(
        step=250, dice=dice, near_dice=dice, partner_dice={}, truth_share={"background": 0.5, "bone": 0.5, "gland": 0},
        predicted_share={"background": 0.5, "bone": 0.5, "gland": 0}, cases={"c": 0.375}, training_dice=dice,
        training={"a": TrainingCase(3, 1.0, 0.5), "b": TrainingCase(2, 2.0, None)},
    )  # fmt: skip
