"""What shows at the second validation: each disease is made for real, and found by its name and no other."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.monitor.symptoms import cases, validation
from pipeline.sampling.batch import Batch
from tests.sick.bodies import Body, bodies, body

Train = Callable
LEARNING = ("train.steps=100", "train.validate_every_steps=50", "train.lr=5e-2")
LONG = ("train.steps=220", "train.validate_every_steps=110", "train.lr=3e-2", "sample.patch_vox=[12, 12, 12]")
LONG_SHAPE_VOX = (32, 24, 56)


def exchange_sides(encoded: np.ndarray) -> np.ndarray:
    """Call the left kidney the right one, and the other way round."""
    return np.array([0, 2, 1, 3], np.uint8)[encoded]


@pytest.fixture
def held_out() -> list[Body]:
    return bodies(1, first_seed=100)


def test_a_network_that_finds_nothing(train: Train, held_out: list[Body]) -> None:
    weights = "loss.class_weights={background: 10000}"
    course = train(*LONG, "loss.name=ce", weights, quick=True, held_out=held_out)
    assert course.names == [validation.ALL_BACKGROUND]


def test_a_class_whose_weight_is_next_to_nothing(train: Train, held_out: list[Body]) -> None:
    weights = "loss.class_weights={background: 0.3, liver: 0.001}"
    course = train(*LONG, "train.lr=6e-2", "loss.name=ce", weights, quick=True, held_out=held_out)
    assert course.names == [validation.NEVER_PREDICTED]
    assert "liver" in course.found[0].evidence and "kidney" not in course.found[0].evidence


def test_a_network_that_learns_what_only_training_images_have(train: Train, held_out: list[Body]) -> None:
    def leak(batch: Batch) -> Batch:
        late = batch.draws[0].key[1] > 100
        shown = torch.where(batch.labels > 0, 6.0 * batch.labels, torch.randn(batch.labels.shape))
        return replace(batch, image=shown[:, None]) if late else batch

    course = train(
        "train.steps=200", "train.validate_every_steps=100", "train.lr=3e-2", "train.schedule=constant", batch=leak,
        quick=True, held_out=held_out,
    )  # fmt: skip
    assert course.names == [validation.OVER_FITTING]


def test_organs_found_again_where_training_never_looked(train: Train) -> None:
    def look_alikes(image: np.ndarray) -> np.ndarray:
        image[:, :, 32:] = image[:, :, :24]
        return image

    far = [body(100, hu=look_alikes, shape_vox=LONG_SHAPE_VOX)]
    course = train(*LONG, "sample.positive=1", quick=True, held_out=far)
    assert course.names == [validation.FAR_FALSE_ALARMS]


def test_sides_named_the_other_way_round_in_the_held_out_cases(train: Train) -> None:
    course = train(*LEARNING, quick=True, held_out=bodies(1, first_seed=100, labels=exchange_sides))
    assert course.names == [validation.SWAPPED]


def test_a_rate_ten_thousand_times_too_low(train: Train, held_out: list[Body]) -> None:
    steps = ("train.steps=60", "train.validate_every_steps=30", "train.lr=5e-7")
    assert train(*steps, quick=True, held_out=held_out).names == [validation.LR_TOO_LOW]


def test_a_case_whose_labels_lie_beside_its_organs(train: Train, held_out: list[Body]) -> None:
    shifted = body(5, labels=lambda encoded: np.roll(encoded, 8, axis=2))
    training = [*bodies(5), shifted]
    course = train(*LEARNING, "train.log_every_steps=2", training=training, quick=True, held_out=held_out)
    assert course.names == [cases.STANDS_OUT]
    assert "body5" in course.found[0].evidence
    assert cases.worst_cases(course.checkups)[0][0] == "body5"
