import pytest

from pipeline.metrics.score import Score, State
from pipeline.metrics.summary import summarise, summarise_groups

NAN = float("nan")


def dice(case: str, label: str, value: float, state: State = "both") -> Score:
    return Score(case, label, "dice", value, state)


SCORES = [
    dice("a", "liver", 0.9),
    dice("a", "spleen", 0.5),
    dice("b", "liver", 0.8),
    dice("b", "spleen", 0.0, "missed"),
    dice("c", "liver", 0.6),
    dice("c", "spleen", NAN, "absent"),
]


def test_the_mean_is_over_cases_of_the_mean_over_the_classes_that_count() -> None:
    summary = summarise(SCORES)
    assert summary["cases"] == 3
    assert summary["mean"]["dice"] == pytest.approx((0.7 + 0.4 + 0.6) / 3)


def test_the_mean_over_detected_stands_beside_its_count() -> None:
    summary = summarise(SCORES)
    assert summary["detected_mean"]["dice"] == pytest.approx((0.7 + 0.8 + 0.6) / 3)
    assert (summary["detected_count"], summary["truth_count"]) == (4, 5)


def test_a_class_is_summarised_with_its_misses_and_without() -> None:
    spleen = summarise(SCORES)["labels"]["spleen"]
    assert spleen["states"] == {"both": 1, "missed": 1, "false_alarm": 0, "absent": 1}
    assert spleen["dice"] == {
        "mean": 0.25, "std": 0.25, "median": 0.25, "count": 2, "detected_mean": 0.5, "detected_count": 1,
    }  # fmt: skip


def test_what_is_nowhere_has_no_mean() -> None:
    summary = summarise([dice("a", "liver", NAN, "absent")])
    assert summary["mean"] == {"dice": None}
    assert summary["labels"]["liver"]["dice"]["std"] is None
    assert summary["labels"]["liver"]["dice"]["count"] == 0


def test_no_scores_give_no_means() -> None:
    assert summarise([]) == {
        "cases": 0, "mean": {}, "detected_mean": {}, "detected_count": 0, "truth_count": 0, "labels": {},
    }  # fmt: skip


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_miss_never_lifts_the_mean(value: float) -> None:
    detected = [*SCORES[:3], dice("b", "spleen", value), *SCORES[4:]]
    assert summarise(SCORES)["mean"]["dice"] <= summarise(detected)["mean"]["dice"]


def test_volumes_have_class_means_and_no_overall_mean() -> None:
    summary = summarise([Score("a", "liver", "volume_ml_truth", 1200.0, "both")])
    assert summary["mean"] == {}
    assert summary["labels"]["liver"]["volume_ml_truth"]["mean"] == 1200.0


def test_groups_are_summarised_apart_and_cases_without_one_together() -> None:
    groups = summarise_groups(SCORES, {"a": "north", "b": "", "c": "north", "failed": "south"})
    assert list(groups) == ["", "north"]
    assert groups["north"] == summarise([score for score in SCORES if score.case in "ac"])
    assert groups[""] == summarise([score for score in SCORES if score.case == "b"])


def test_cases_of_which_none_has_a_group_are_not_grouped() -> None:
    assert summarise_groups(SCORES, {"a": "", "b": "", "c": ""}) == {}
