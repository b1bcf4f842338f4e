from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labels import IGNORE, Labels
from pipeline.metrics.score import METRICS, QUALITY, Score, score_case

LABELS = Labels({"liver": (1,), "spleen": (2,), "kidney": (3,), "lesion": (4,)})
SPACING_MM = (1.0, 2.0, 5.0)
SHAPE = (12, 6, 4)
DIAGONAL_MM = np.sqrt(12**2 + 12**2 + 20**2)


def case() -> tuple[np.ndarray, np.ndarray]:
    """Return truth and prediction: liver in both, spleen missed, kidney a false alarm, lesion in neither."""
    truth, prediction = np.zeros((2, *SHAPE), np.uint8)
    truth[1:5, 1:3, 1:3] = prediction[2:6, 1:3, 1:3] = 1
    truth[8:10, 1:3, 1:3] = 2
    prediction[8:10, 4:5, 1:3] = 3
    return truth, prediction


def by_key(scores: list[Score]) -> dict[tuple[str, str], Score]:
    return {(score.label, score.metric): score for score in scores}


def test_each_class_has_each_metric_in_order() -> None:
    scores = score_case(*case(), SPACING_MM, LABELS, case="a")
    assert [(s.label, s.metric) for s in scores] == [(name, metric) for name in LABELS.names for metric in METRICS]
    assert {score.case for score in scores} == {"a"}


def test_a_class_on_both_sides_is_measured() -> None:
    scores = by_key(score_case(*case(), SPACING_MM, LABELS))
    assert scores["liver", "dice"].value == pytest.approx(2 * 12 / 32)
    assert scores["liver", "iou"].value == pytest.approx(12 / 20)
    assert scores["liver", "hd95_mm"].value == 1.0  # shifted by one voxel of 1 mm
    assert scores["liver", "nsd"].value == 1.0
    assert scores["liver", "volume_ml_truth"].value == pytest.approx(16 * 10 / 1000)
    assert scores["liver", "dice"].state == "both"


def test_a_class_on_one_side_only_gets_the_worst_values() -> None:
    scores = by_key(score_case(*case(), SPACING_MM, LABELS))
    for label, state in (("spleen", "missed"), ("kidney", "false_alarm")):
        assert {scores[label, metric].state for metric in METRICS} == {state}
        assert [scores[label, metric].value for metric in ("dice", "iou", "nsd")] == [0, 0, 0]
        assert scores[label, "hd95_mm"].value == pytest.approx(DIAGONAL_MM)
    assert scores["spleen", "volume_ml_prediction"].value == 0
    assert scores["kidney", "volume_ml_prediction"].value == pytest.approx(4 * 10 / 1000)


def test_a_class_on_neither_side_is_not_a_number() -> None:
    scores = by_key(score_case(*case(), SPACING_MM, LABELS))
    assert all(isnan(scores["lesion", metric].value) for metric in QUALITY)
    assert scores["lesion", "dice"].state == "absent"
    assert scores["lesion", "volume_ml_truth"].value == 0


def test_ignored_voxels_change_no_score() -> None:
    truth, prediction = case()
    clean = score_case(truth, prediction, SPACING_MM, LABELS, ("dice", "hd95_mm", "nsd", "volume_ml_prediction"))
    truth[:, :, 3] = IGNORE
    prediction[:, :, 3] = 2
    ignoring = score_case(truth, prediction, SPACING_MM, LABELS, ("dice", "hd95_mm", "nsd", "volume_ml_prediction"))
    np.testing.assert_equal([score.value for score in ignoring], [score.value for score in clean])


REGIONS = {"organ": (1, 4), "lesion": (4,), "rest": (2, 3)}


def region_case() -> tuple[np.ndarray, np.ndarray]:
    """Return truth and prediction: six layers of 4 voxels are organ in both, of these 2 and 4 layers lesion."""
    truth, prediction = np.zeros((2, *SHAPE), np.uint8)
    for side, lesion_from in ((truth, 5), (prediction, 3)):
        side[1:lesion_from, 1:3, 1:3] = 1
        side[lesion_from:7, 1:3, 1:3] = 4
    return truth, prediction


def test_overlapping_regions_are_scored_each_as_the_union_of_its_classes() -> None:
    scores = score_case(*region_case(), SPACING_MM, LABELS, targets=REGIONS)
    assert [(s.label, s.metric) for s in scores] == [(name, metric) for name in REGIONS for metric in METRICS]
    value = {key: score.value for key, score in by_key(scores).items()}
    assert [value["organ", metric] for metric in QUALITY] == [1.0, 1.0, 0.0, 1.0]
    assert value["organ", "volume_ml_truth"] == value["organ", "volume_ml_prediction"] == pytest.approx(0.24)
    assert value["lesion", "dice"] == pytest.approx(2 * 8 / (8 + 16))
    assert value["lesion", "iou"] == pytest.approx(0.5)
    assert value["lesion", "hd95_mm"] == 2.0  # two layers of 1 mm too far
    assert value["lesion", "volume_ml_truth"] == pytest.approx(0.08)
    assert by_key(scores)["rest", "dice"].state == "absent"
    assert all(isnan(value["rest", metric]) for metric in QUALITY)


def test_a_region_is_missed_only_where_none_of_its_classes_is_predicted() -> None:
    truth, prediction = region_case()
    prediction[prediction == 4] = 1
    scores = by_key(score_case(truth, prediction, SPACING_MM, LABELS, ("dice",), targets=REGIONS))
    assert (scores["organ", "dice"].value, scores["organ", "dice"].state) == (1.0, "both")
    assert (scores["lesion", "dice"].value, scores["lesion", "dice"].state) == (0.0, "missed")


def test_ignored_voxels_belong_to_no_region() -> None:
    truth, prediction = region_case()
    truth[6] = IGNORE
    scores = by_key(score_case(truth, prediction, SPACING_MM, LABELS, targets=REGIONS))
    assert [scores["organ", metric].value for metric in QUALITY] == [1.0, 1.0, 0.0, 1.0]
    assert scores["organ", "volume_ml_prediction"].value == pytest.approx(0.2)
    assert scores["lesion", "dice"].value == pytest.approx(2 * 4 / (4 + 12))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.sets(st.integers(1, 4), min_size=1))
def test_a_region_scores_what_one_class_in_its_place_would(seed: int, classes: set[int]) -> None:
    truth, prediction = np.random.default_rng(seed).integers(0, 5, (2, *SHAPE)).astype(np.uint8)
    merged = [np.isin(side, [*classes]).astype(np.uint8) for side in (truth, prediction)]
    region = score_case(truth, prediction, SPACING_MM, LABELS, targets={"one": [*classes]})
    assert region == score_case(*merged, SPACING_MM, Labels({"one": (1,)}))


def test_only_the_metrics_asked_for_are_returned() -> None:
    assert [score.metric for score in score_case(*case(), SPACING_MM, LABELS, ("dice",))] == ["dice"] * 4


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="hd99"):
        score_case(*case(), SPACING_MM, LABELS, ("hd99",))


def test_the_tolerance_decides_what_the_surface_dice_forgives() -> None:
    strict = by_key(score_case(*case(), SPACING_MM, LABELS, ("nsd",), tolerance_mm=0.5))
    assert 0 < strict["liver", "nsd"].value < 1


def test_a_score_survives_json() -> None:
    for score in score_case(*case(), SPACING_MM, LABELS):
        again = Score.from_json(score.to_json())
        np.testing.assert_equal(vars(again), vars(score))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_taking_a_class_out_of_a_prediction_never_betters_a_score_of_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, prediction = (random.integers(0, 5, SHAPE) * (random.random(SHAPE) < 0.1) for _ in range(2))
    truth, prediction = truth.astype(np.uint8), prediction.astype(np.uint8)
    truth[0, 0, 0] = 1
    without = np.where(prediction == 1, 0, prediction).astype(np.uint8)
    given, missed = (by_key(score_case(truth, p, SPACING_MM, LABELS, QUALITY)) for p in (prediction, without))
    for metric in ("dice", "iou", "nsd"):
        assert missed["liver", metric].value <= given["liver", metric].value
    assert missed["liver", "hd95_mm"].value >= given["liver", "hd95_mm"].value
