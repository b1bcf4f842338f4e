"""What labels and predictions of a batch say, counted by hand."""

import numpy as np
import pytest
import torch

from pipeline.head import Head
from pipeline.labels import Labels, Region
from pipeline.training.signs import dice_by_target, overlap_of, strange_labels

LABELS = Labels({"bone": (1,), "gland": (2,)})
SHAPE = (4, 4, 4)


def logits_of(decided: torch.Tensor) -> torch.Tensor:
    """Return logits under which a softmax head over two classes decides so: (B, 3, x, y, z)."""
    return torch.stack([10.0 * (decided == label) for label in range(3)], 1)


@pytest.mark.parametrize(
    ("values", "kind", "strange"),
    [
        ([0, 1, 2, 255], torch.uint8, ()),
        ([0, 3, 255, 7, 254], torch.uint8, (3, 7, 254)),
        ([3, 4, 5, 6, 7, 8, 9], torch.uint8, (3, 4, 5, 6, 7)),
        ([0.0, 1.0, 2.0, 255.0], torch.float32, ()),
        ([0.0, 0.5, 1.0, -1.0], torch.float32, (-1.0, 0.5)),
        ([0, 1, -1], torch.int64, (-1,)),
    ],
)
def test_values_that_are_no_class_are_named(values: list, kind: torch.dtype, strange: tuple) -> None:
    assert strange_labels(torch.tensor(values, dtype=kind).reshape(1, -1, 1, 1), classes=2) == strange


def test_dice_is_of_the_patches_together_and_of_each() -> None:
    truth, decided = torch.zeros(2, *SHAPE, dtype=torch.uint8), torch.zeros(2, *SHAPE, dtype=torch.uint8)
    truth[0, :2, 0, 0] = 1  # 2 voxels of bone, both found, and 2 more that are none
    decided[0, :4, 0, 0] = 1
    truth[1, :, 1, 1] = 1  # 4 voxels of bone, none found
    found = overlap_of(logits_of(decided), truth, Head("softmax", LABELS))
    assert found.predicted == {"background": 124 / 128, "bone": 4 / 128, "gland": 0.0}
    assert found.dice == {"bone": 2 * 2 / (6 + 4)}
    assert found.dice_of_samples() == [pytest.approx(2 * 2 / (2 + 4)), 0.0]


def test_an_empty_patch_in_which_nothing_is_found_has_no_dice() -> None:
    nothing = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    found = overlap_of(logits_of(nothing), nothing, Head("softmax", LABELS))
    assert (found.dice, found.dice_of_samples()) == ({}, [None])


@pytest.mark.parametrize("strange", [torch.tensor(7, dtype=torch.uint8), torch.tensor(0.25)])
def test_labels_that_are_no_class_are_ignored(strange: torch.Tensor) -> None:
    truth = torch.zeros(1, *SHAPE, dtype=strange.dtype)
    truth[0, 0], truth[0, 1] = 1, strange
    decided = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    decided[0, :2] = 1
    found = overlap_of(logits_of(decided), truth, Head("softmax", LABELS))
    assert found.dice == {"bone": 1.0}
    assert found.predicted["bone"] == 0.5


def test_a_head_of_regions_is_measured_by_region() -> None:
    labels = Labels(LABELS.values, (Region("body", ("bone", "gland"), "bone"), Region("soft", ("gland",), "gland")))
    truth = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    truth[0, 0], truth[0, 1] = 1, 2
    logits = torch.full((1, 2, *SHAPE), -9.0)
    logits[0, 0, 0] = 9.0  # half of the body is found, and nothing of its soft part
    found = overlap_of(logits, truth, Head("regions", labels))
    assert found.dice == {"body": pytest.approx(2 / 3), "soft": 0.0}
    assert np.array_equal(found.voxels, [[[16, 48], [0, 16]]])


def test_a_target_that_is_nowhere_has_no_dice() -> None:
    assert dice_by_target(np.array([[1, 4], [0, 0]]), ("bone", "gland")) == {"bone": 0.5}
