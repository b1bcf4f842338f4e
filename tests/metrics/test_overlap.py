import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import DiceMetric

from pipeline.labels import IGNORE
from pipeline.metrics.overlap import confusion_matrix, confusion_of_union, dice, iou, prediction_voxels, truth_voxels

CLASSES = 3
TRUTH = np.array([[[0, 1, 1, 2]]], np.uint8)
PREDICTION = np.array([[[1, 1, 0, 2]]], np.uint8)


def label_maps(seed: int, present: int = CLASSES) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth, prediction = random.integers(0, present + 1, (2, 6, 5, 4)).astype(np.uint8)
    return truth, prediction


def test_confusion_matrix_counts_by_truth_and_prediction() -> None:
    expected = [[0, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert confusion_matrix(TRUTH, PREDICTION, 2).tolist() == expected


def test_dice_and_iou_of_a_hand_counted_case() -> None:
    confusion = confusion_matrix(TRUTH, PREDICTION, 3)
    np.testing.assert_array_equal(dice(confusion), [2 * 1 / (2 + 2), 1, np.nan])
    np.testing.assert_array_equal(iou(confusion), [1 / 3, 1, np.nan])
    assert truth_voxels(confusion).tolist() == [2, 1, 0]
    assert prediction_voxels(confusion).tolist() == [2, 1, 0]


def test_a_union_of_classes_is_counted_as_one() -> None:
    confusion = confusion_matrix(TRUTH, PREDICTION, 2)
    assert confusion_of_union(confusion, (1, 2)).tolist() == [[0, 1], [1, 2]]
    assert confusion_of_union(confusion, (2,)).tolist() == [[3, 0], [0, 1]]
    assert confusion_of_union(confusion, ()).tolist() == [[4, 0], [0, 0]]


@given(seed=st.integers(0, 2**32 - 1), classes=st.sets(st.integers(1, CLASSES)))
def test_a_union_is_counted_as_in_label_maps_of_it_alone(seed: int, classes: set[int]) -> None:
    truth, prediction = label_maps(seed)
    merged = [np.isin(side, [*classes]).astype(np.uint8) for side in (truth, prediction)]
    union = confusion_of_union(confusion_matrix(truth, prediction, CLASSES), [*classes])
    np.testing.assert_array_equal(union, confusion_matrix(*merged, 1))


def test_voxels_that_the_truth_ignores_are_counted_nowhere() -> None:
    truth = np.array([[[1, IGNORE, IGNORE, 0]]], np.uint8)
    prediction = np.array([[[1, 1, 0, 0]]], np.uint8)
    assert confusion_matrix(truth, prediction, 1).tolist() == [[1, 0], [0, 1]]


def test_a_prediction_of_ignore_counts_as_background() -> None:
    truth = np.array([[[1, 0]]], np.uint8)
    prediction = np.full((1, 1, 2), IGNORE, np.uint8)
    assert confusion_matrix(truth, prediction, 1).tolist() == [[1, 0], [1, 0]]


def test_a_class_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="between 3 and 254"):
        confusion_matrix(np.full((2, 2, 2), 3, np.uint8), np.zeros((2, 2, 2), np.uint8), 2)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        confusion_matrix(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8), 2)


@given(seed=st.integers(0, 2**32 - 1), present=st.integers(0, CLASSES))
def test_iou_follows_from_dice_and_neither_depends_on_which_side_is_the_truth(seed: int, present: int) -> None:
    truth, prediction = label_maps(seed, present)
    forward, backward = confusion_matrix(truth, prediction, CLASSES), confusion_matrix(prediction, truth, CLASSES)
    np.testing.assert_allclose(iou(forward), dice(forward) / (2 - dice(forward)))
    np.testing.assert_array_equal(dice(forward), dice(backward))
    assert forward.sum() == truth.size


@pytest.mark.parametrize("seed", range(5))
def test_dice_equals_monais(seed: int) -> None:
    truth, prediction = label_maps(seed)
    values = np.arange(CLASSES + 1).reshape(-1, 1, 1, 1)
    channels = [torch.from_numpy((side == values)[None]) for side in (prediction, truth)]
    monai = DiceMetric(include_background=False, reduction="none")(*channels).numpy()[0]
    np.testing.assert_allclose(dice(confusion_matrix(truth, prediction, CLASSES)), monai, atol=1e-6)
