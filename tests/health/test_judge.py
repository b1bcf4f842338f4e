"""Each judgement on hand-made facts, on both sides of its threshold."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.cases import Case
from pipeline.dataset.fingerprint import CaseFingerprint
from pipeline.health.case import is_left
from pipeline.health.examination import Examination, Extremes
from pipeline.health.judge import judge, outliers
from pipeline.health.problem import Problem
from pipeline.labels import Labels
from pipeline.volume.intensity import histogram

LABELS = Labels({"liver": (1,), "LeftKidney": (2,), "RightKidney": (3,)})
HU = histogram(np.repeat([-1000.0, -55.0, 45.0], [400, 300, 300]))
COUNTS = {0: 400, 1: 200, 2: 200, 3: 200}
CENTRES_X_MM = {1: 20.0, 2: -40.0, 3: 40.0}


def examination(
    name: str,
    *,
    split: str = "train",
    patient: str = "",
    counts: Mapping[int, int] = COUNTS,
    spacing_mm: tuple[float, float, float] = (1, 1, 2),
    shape_vox: tuple[int, int, int] = (100, 100, 50),
    orientation: str = "LPS",
    volumes_mm3: Mapping[int, tuple[float, float]] | None = None,
    **facts: Any,
) -> Examination:
    """Return the examination of a sound case, but for what is given."""
    fingerprint = CaseFingerprint(
        name=name,
        shape_vox=shape_vox,
        spacing_mm=spacing_mm,
        orientation=orientation,
        counts=counts,
        histogram=HU,
        foreground_histogram=HU,
        components={},
        body_shape_vox=shape_vox,
    )
    sound = {
        "case": Case(name, Path(f"{name}.nii.gz"), Path(f"{name}_label.nii.gz"), patient or name, split),  # type: ignore[arg-type]
        "labelled": True,
        "fingerprint": fingerprint,
        "extremes": Extremes(-1000, 400, 3000, 1),
        "image_hash": name,
        "turned_degrees": 0.0,
        "volumes_mm3": volumes_mm3
        or {label: (float(n), float(n)) for label, n in counts.items() if label in COUNTS and label},
        "cut_off_vox": 0,
        "centre_x_mm": CENTRES_X_MM,
        "air_shares": {label: 0.0 for label in counts if label in COUNTS and label},
    }
    return Examination(**{**sound, **facts})


def several(count: int, **given: Any) -> list[Examination]:
    return [examination(f"case{n}", **given) for n in range(count)]


def judged(examinations: list[Examination], labels: Labels = LABELS, folds: int = 2) -> list[Problem]:
    return judge(examinations, [found.case for found in examinations], labels, folds)


def kinds(examinations: list[Examination], labels: Labels = LABELS, folds: int = 2) -> list[tuple[str, str, str]]:
    """Return severity, case and kind of each problem."""
    return [(problem.severity, problem.case, problem.what) for problem in judged(examinations, labels, folds)]


def test_nothing_is_wrong_with_sound_cases() -> None:
    assert judged(several(6)) == []
    assert judged([]) == []


# Of one case


def test_values_that_are_not_hu_are_told_with_their_shares() -> None:
    air = histogram(np.repeat([-1000.0, 805.0], [900, 100]))
    sound = examination("a")
    wrong = replace(sound, fingerprint=replace(sound.fingerprint, histogram=air))
    (problem,) = judged([wrong, *several(2)])
    assert (problem.severity, problem.case, problem.what) == ("error", "a", "not HU")
    assert problem.found == "90.0% of the voxels near -1000 or below, 0.0% of the others near 0"


@pytest.mark.parametrize(
    ("spacing_mm", "wrong"), [((0.1, 1, 20), False), ((0.09, 1, 2), True), ((1, 1, 20.5), True), ((0.0005,) * 3, True)]
)
def test_a_spacing_that_no_ct_has_is_told(spacing_mm: tuple[float, float, float], wrong: bool) -> None:
    found = kinds([examination("a", spacing_mm=spacing_mm), *several(2)])
    assert found == ([("warning", "a", "implausible spacing")] if wrong else [])


@pytest.mark.parametrize(("degrees", "wrong"), [(30.0, False), (30.1, True)])
def test_a_grid_turned_further_than_training_turns_patches_is_told(degrees: float, wrong: bool) -> None:
    found = kinds([examination("a", turned_degrees=degrees), *several(2)])
    assert found == ([("warning", "a", "turned grid")] if wrong else [])


def test_an_empty_label_is_told_and_a_test_case_without_one_is_not() -> None:
    empty = {"counts": {0: 900, 255: 100}, "centre_x_mm": {}}
    assert kinds([examination("a", **empty), *several(2)]) == [("warning", "a", "empty label")]
    assert kinds([examination("a", split="test", labelled=False, **empty), *several(2)]) == []


@pytest.mark.parametrize(("background", "wrong"), [(11, False), (10, True), (0, True)])
def test_a_hundredth_of_background_is_too_little(background: int, wrong: bool) -> None:
    counts = {0: background, 1: 1000 - background, 255: 5000}
    found = kinds([examination("a", counts=counts), *several(2)])
    assert found == ([("warning", "a", "no background")] if wrong else [])


@pytest.mark.parametrize(("voxels", "wrong"), [(9, True), (10, False)])
def test_a_class_of_nine_voxels_is_told(voxels: int, wrong: bool) -> None:
    problems = judged([examination("a", counts={**COUNTS, 2: voxels}), *several(2)])
    assert [(each.what, each.found) for each in problems] == (
        [("few voxels", "voxels of LeftKidney: 9")] if wrong else []
    )


def test_labels_in_the_air_are_told() -> None:
    (problem,) = judged([examination("a", cut_off_vox=7), *several(2)])
    assert (problem.severity, problem.what) == ("warning", "label in the air")
    assert problem.found.startswith("7 labelled voxels")


@pytest.mark.parametrize(("left_mm", "wrong"), [(-40, False), (49, False), (50, False), (50.5, True), (120, True)])
def test_left_may_lie_a_centimetre_right_of_right_and_no_more(left_mm: float, wrong: bool) -> None:
    problems = judged([examination("a", centre_x_mm={2: left_mm, 3: 40.0}), *several(2)])
    assert [each.what for each in problems] == (["left and right exchanged"] if wrong else [])


def test_one_side_alone_cannot_be_exchanged() -> None:
    assert judged([examination("a", centre_x_mm={2: 200.0}), *several(2)]) == []
    alone = Labels({"liver": (1,), "LeftKidney": (2,), "spleen": (3,)})
    assert judged([examination("a", centre_x_mm={2: 200.0, 3: -200.0}), *several(2)], alone) == []


@pytest.mark.parametrize("name", ["LeftLung", "lung_left", "lungleft", "Lung_L", "L kidney", "rib_left_7", "LEFT_EYE"])
def test_names_that_say_left(name: str) -> None:
    assert is_left(name)


@pytest.mark.parametrize("name", ["RightLung", "lung_right", "Lung_R", "R kidney", "cleft", "liver", "vertebrae_L1"])
def test_names_that_do_not_say_left(name: str) -> None:
    assert not is_left(name)


# Of the data set


def in_air(*shares: float, **facts: Any) -> list[Examination]:
    """Return cases of which these shares of the liver, and nothing of the others, lie in air."""
    return [examination(f"case{n}", air_shares={1: share, 2: 0.0, 3: 0.0}, **facts) for n, share in enumerate(shares)]


@pytest.mark.parametrize(("share", "wrong"), [(0.5, False), (0.51, True), (1.0, True)])
def test_a_class_with_over_half_of_its_voxels_in_air_is_told(share: float, wrong: bool) -> None:
    problems = judged(in_air(0.02, share, 0.04, 0.0, 0.03))
    assert [(each.severity, each.case, each.what) for each in problems] == (
        [("warning", "case1", "class in the air")] if wrong else []
    )
    assert not wrong or problems[0].found == f"liver: {share:.0%} lie below -500 HU, where 3% is usual"


@pytest.mark.parametrize(("usual", "wrong"), [(0.099, True), (0.1, False), (0.95, False)])
def test_what_has_a_tenth_of_its_voxels_in_air_in_most_cases_is_an_organ_of_air(usual: float, wrong: bool) -> None:
    found = kinds(in_air(usual, usual, 1.0))
    assert found == ([("warning", "case2", "class in the air")] if wrong else [])


def test_two_cases_do_not_show_whether_a_class_belongs_into_air_and_three_do() -> None:
    assert kinds(in_air(1.0), folds=1) == []
    assert kinds(in_air(1.0, 0.0)) == []
    assert kinds(in_air(1.0, 0.0, 0.0)) == [("warning", "case0", "class in the air")]


def test_cases_without_a_class_say_nothing_of_where_it_is_usual() -> None:
    without = {"counts": {0: 400, 2: 200, 3: 200}, "air_shares": {2: 0.0, 3: 0.0}}
    others = [examination(f"other{n}", **without) for n in range(3)]
    assert kinds([*in_air(1.0, 0.9, 0.0), *others]) == []


@pytest.mark.parametrize(("voxels", "what"), [(9, "few voxels"), (10, "class in the air")])
def test_a_class_of_few_voxels_in_air_is_told_as_such(voxels: int, what: str) -> None:
    odd = examination("odd", air_shares={1: 1.0, 2: 0.0, 3: 0.0}, counts={**COUNTS, 1: voxels})
    assert kinds([odd, *several(3)]) == [("warning", "odd", what)]


def test_where_values_are_not_hu_nothing_is_said_of_air() -> None:
    sound = examination("a", air_shares={1: 1.0, 2: 1.0, 3: 1.0})
    low = histogram(np.repeat([-1000.0, -805.0], [500, 500]))
    wrong = replace(sound, fingerprint=replace(sound.fingerprint, histogram=low))
    assert [what for _, _, what in kinds([wrong, *several(3)])] == ["not HU"]


@pytest.mark.parametrize(("after", "wrong"), [(80.0, False), (79.9, True), (120.0, False), (120.1, True), (0.0, True)])
def test_a_class_may_lose_or_gain_a_fifth_of_its_volume(after: float, wrong: bool) -> None:
    problems = judged([examination("a", volumes_mm3={1: (100.0, after)}), *several(2)])
    assert [each.what for each in problems] == (["volume on the training grid"] if wrong else [])


def test_the_largest_change_of_volume_is_told_first_in_mm3_and_percent() -> None:
    first = examination("a", volumes_mm3={1: (100.0, 130.0)})
    second = examination("b", volumes_mm3={3: (2000.0, 500.0)})
    problems = judged([first, second, *several(2)])
    assert [each.found for each in problems] == [
        "RightKidney: 2000 mm3 become 500 (-75%)",
        "liver: 100 mm3 become 130 (+30%)",
    ]


def test_a_class_of_few_voxels_is_not_told_twice() -> None:
    small = examination("a", counts={**COUNTS, 1: 3}, volumes_mm3={1: (3.0, 0.0)})
    assert kinds([small, *several(2)]) == [("warning", "a", "few voxels")]


def test_a_class_that_no_training_case_has_is_an_error() -> None:
    without = {index: count for index, count in COUNTS.items() if index != 1}
    testing = examination("t", split="test")
    (problem,) = judged([*several(3, counts=without), testing])
    assert (problem.severity, problem.case, problem.what) == ("error", "", "class without a case")
    assert problem.found == "no voxel in 3 training cases of liver"


@pytest.mark.parametrize(("holding", "wrong"), [(2, True), (3, False)])
def test_a_class_in_fewer_patients_than_folds_is_told(holding: int, wrong: bool) -> None:
    without = {index: count for index, count in COUNTS.items() if index != 1}
    given = [*several(holding), *(examination(f"other{n}", counts=without) for n in range(3))]
    problems = judged(given, folds=3)
    assert [(each.severity, each.what) for each in problems] == (
        [("warning", "class in few patients")] if wrong else []
    )
    assert not wrong or problems[0].found == "of 5 patients to train with liver in 2"


def test_patients_count_and_not_cases() -> None:
    given = [examination(f"case{n}", patient="p" if n < 4 else "") for n in range(5)]
    assert kinds(given, folds=2) == []
    assert kinds(given, folds=3) == [("warning", "", "few patients")]


def test_folds_do_not_matter_where_the_data_set_names_validation_cases() -> None:
    assert kinds([examination("a"), examination("b", split="validation")], folds=5) == []


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        (("train", "train"), []),
        (("train", "test"), ["case0"]),
        (("test", "train"), ["case1"]),
        (("validation", "test"), ["case0"]),
        (("train", "validation", "test", "train"), ["case0", "case1", "case3"]),
    ],
)
def test_a_patient_in_two_splits_is_an_error_of_the_cases_that_are_to_leave(
    splits: tuple[str, ...], told: list[str]
) -> None:
    given = [examination(f"case{n}", split=split, patient="p") for n, split in enumerate(splits)]
    expected = [("error", name, "patient in two splits") for name in told]
    assert [each for each in kinds(given, folds=1) if each[2] != "class without a case"] == expected


def test_a_data_set_of_test_cases_only_is_an_error() -> None:
    assert kinds(several(2, split="test")) == [("error", "", "no training case")]


def test_a_patient_whose_scan_cannot_be_read_is_still_in_two_splits() -> None:
    testing = examination("t", split="test", patient="p").case
    given = [examination("a", patient="p"), examination("b")]
    problems = judge(given, [*(found.case for found in given), testing], LABELS, 2)
    assert [(each.case, each.what) for each in problems] == [("a", "patient in two splits")]


def test_a_scan_in_two_splits_is_an_error_of_the_training_case() -> None:
    given = [examination("t", split="test", image_hash="same"), examination("a", image_hash="same"), *several(2)]
    (problem,) = judged(given)
    assert (problem.severity, problem.case, problem.what) == ("error", "a", "scan in two splits")
    assert problem.found == "a (train) has the voxels of t (test)"


def test_a_scan_twice_in_training_may_come_into_two_folds_unless_it_is_of_one_patient() -> None:
    twice = [examination(name, image_hash="same") for name in "ab"]
    assert kinds([*twice, *several(2)]) == [("warning", "a", "same scan twice")]
    twice = [examination(name, image_hash="same", patient="p") for name in "ab"]
    assert kinds([*twice, *several(2)]) == [("note", "a", "same scan twice")]


@pytest.mark.parametrize(("slice_mm", "wrong"), [(3.9, False), (4.0, True), (1.05, False), (1.0, True)])
def test_a_spacing_twice_that_of_the_others_is_told(slice_mm: float, wrong: bool) -> None:
    odd = examination("odd", spacing_mm=(1, 1, slice_mm), shape_vox=(100, 100, round(100 / slice_mm)))
    problems = judged([odd, *several(6)])
    assert [(each.case, each.what) for each in problems] == ([("odd", "unusual spacing")] if wrong else [])
    assert not wrong or problems[0].found == f"{slice_mm:.3g} mm along z, where 2 is usual"


@pytest.mark.parametrize(("slices", "wrong"), [(13, False), (12, True), (199, False), (200, True), (1, True)])
def test_a_scan_four_times_smaller_or_larger_than_the_others_is_told(slices: int, wrong: bool) -> None:
    problems = judged([examination("odd", shape_vox=(100, 100, slices)), *several(6)])
    assert [(each.case, each.what) for each in problems] == ([("odd", "unusual size")] if wrong else [])
    assert not wrong or problems[0].found == f"{2 * slices} mm along z, where 100 is usual"


def test_a_size_that_follows_from_the_spacing_is_not_told_again() -> None:
    assert kinds([examination("odd", spacing_mm=(1, 1, 10)), *several(6)]) == [("warning", "odd", "unusual spacing")]


def test_axes_in_different_orders_are_a_note() -> None:
    (problem,) = judged([*several(3), examination("a", orientation="RAS")])
    assert (problem.severity, problem.case, problem.what) == ("note", "", "mixed orientation")
    assert problem.found == "LPS in 3, RAS in 1"


# Outliers


def test_an_outlier_is_far_from_the_median_by_its_ratio() -> None:
    values = np.array([[1.0, 5.0]] * 5 + [[1.0, 0.5]])
    assert outliers(values, 2) == [(5, 1)]
    assert outliers(values, 10.001) == []


def test_a_second_way_of_scanning_that_a_fifth_of_the_cases_share_is_no_outlier() -> None:
    assert outliers(np.array([[1.0]] * 17 + [[5.0]] * 3), 2) == [(17, 0), (18, 0), (19, 0)]
    assert outliers(np.array([[1.0]] * 15 + [[5.0]] * 5), 2) == []


def test_where_values_spread_an_outlier_is_three_times_further_out_than_four_fifths() -> None:
    spread = [[2.0**step] for step in (-1, 1, 0, -1, 1, 0, -1, 1, 0)]  # four fifths are within a factor of 2
    assert outliers(np.array([*spread, [7.9]]), 2) == []
    assert outliers(np.array([*spread, [8.1]]), 2) == [(9, 0)]


def test_four_cases_do_not_show_what_is_usual() -> None:
    assert outliers(np.array([[1.0]] * 3 + [[5.0]]), 2) == []
    assert outliers(np.array([[1.0]] * 4 + [[5.0]]), 2) == [(4, 0)]
