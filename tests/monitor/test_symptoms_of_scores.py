"""The rules of validations on records made by hand; `tests/sick` has the diseases themselves."""

from dataclasses import replace
from math import nan

import pytest

from pipeline.monitor.checkup import Checkup, TrainingCase
from pipeline.monitor.symptoms import cases, validation
from pipeline.monitor.symptoms.diagnose import diagnose
from tests.monitor.made import CHECKUP, FACTS, names, records, two

ONLY_BACKGROUND = {"background": 1.0, "left": 0.0, "right": 0.0}
NO_HIT = {"left": 0.0, "right": 0.0}
SICK_CHECKUPS = {
    validation.ALL_BACKGROUND: two(predicted_share=ONLY_BACKGROUND, dice=NO_HIT, near_dice=NO_HIT),
    validation.NOTHING_FOUND: two(
        predicted_share={"background": 0.9999, "left": 0.0001, "right": 0.0}, dice={"left": 0.01, "right": 0.0},
        near_dice=NO_HIT,
    ),
    validation.NEVER_PREDICTED: two(
        predicted_share={"background": 0.98, "left": 0.02, "right": 0.0},
        dice={"left": 0.7, "right": 0.0},
        near_dice={"left": 0.7, "right": 0.0},
    ),
    validation.FAR_FALSE_ALARMS: two(dice={"left": 0.3, "right": 0.3}),
    validation.SWAPPED: two(
        dice=NO_HIT, partner_dice={"left": 0.7, "right": 0.6}, near_dice={"left": 0.1, "right": 0.1}
    ),
    validation.OVER_FITTING: [
        two(dice={"left": 0.5, "right": 0.5})[0],
        two(dice={"left": 0.4, "right": 0.5}, near_dice={"left": 0.4, "right": 0.5})[1],
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "checkups"), SICK_CHECKUPS.items())
def test_a_disease_of_validations_is_named_alone_and_not_at_the_first(name: str, checkups: list[Checkup]) -> None:
    assert names(records(), checkups=checkups) == [name]
    assert names(records(), checkups=checkups[-1:]) == []


@pytest.mark.parametrize("name", [validation.ALL_BACKGROUND, validation.NOTHING_FOUND, validation.NEVER_PREDICTED,
                                  validation.FAR_FALSE_ALARMS])  # fmt: skip
def test_patience_is_200_steps_or_a_fiftieth_of_the_run(name: str) -> None:
    early = [replace(checkup, step=checkup.step - 100) for checkup in SICK_CHECKUPS[name]]
    assert names(records(), checkups=early) == []
    for steps, expected in ((15_000, []), (14_999, [name]), (1000, [name]), (None, [name])):
        assert names(records(), replace(FACTS, steps=steps), SICK_CHECKUPS[name]) == expected, steps


def test_a_run_that_has_just_begun_to_predict_foreground_is_on_its_way() -> None:
    empty, few = (SICK_CHECKUPS[name][0] for name in (validation.ALL_BACKGROUND, validation.NOTHING_FOUND))
    begun = [replace(empty, training_dice={}), replace(few, step=300, training_dice={})]
    assert names(records(), checkups=begun) == []
    assert names(records(), checkups=[*begun, replace(begun[-1], step=350)]) == [validation.NOTHING_FOUND]


def test_where_no_held_out_case_has_a_target_nothing_is_missed() -> None:
    lacking = two(predicted_share=ONLY_BACKGROUND, truth_share=ONLY_BACKGROUND, dice={}, near_dice={})
    assert names(records(), checkups=lacking) == []


def test_a_rate_too_low_is_told_where_the_weights_stand_still_and_the_score_is_poor() -> None:
    slow, poor = records(update_share=1e-6), two(dice={"left": 0.1, "right": 0.1}, near_dice={"left": 0.1})
    (finding,) = diagnose(slow, FACTS, poor)
    assert finding.name == validation.LR_TOO_LOW and "the cross-entropy went from 0.7 to 0.7" in finding.evidence
    (finding,) = diagnose([replace(record, parts={}) for record in slow], FACTS, poor)
    assert "the loss went from 0.8 to 0.8" in finding.evidence
    assert names(slow, checkups=two()) == []
    assert names([replace(record, lr=1e-6) for record in slow], checkups=poor) == []


def test_fine_tuning_moves_slowly_and_without_held_out_cases_no_score_is_poor() -> None:
    slow = records(update_share=1e-6)
    poor = two(dice={"left": 0.1, "right": 0.1}, near_dice={"left": 0.1})
    assert names(slow, replace(FACTS, warm=True), poor) == []
    assert names(slow, checkups=two(dice={}, near_dice={}, truth_share={}, predicted_share={})) == []


def test_a_gap_that_closes_is_no_disease() -> None:
    assert names(records(), checkups=[two(dice={"left": 0.2})[0], two(dice={"left": 0.4})[1]]) == []


def test_a_false_voxel_in_cases_without_the_target_is_not_far_from_it() -> None:
    # Ten cases: four with a tumour, Dice 0.95, six without one, a voxel of it predicted in each.
    assert names(records(), checkups=two(dice={"left": 4 * 0.95 / 10}, near_dice={"left": 0.95},
                                         present_dice={"left": 0.95})) == []  # fmt: skip


def many(learnt: int) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return Dice of 117 targets, of which the first few are learnt and the others never found, and their names."""
    targets = tuple(f"structure_{number}" for number in range(117))
    return {name: 0.8 if number < learnt else 0.0 for number, name in enumerate(targets)}, targets


def test_of_many_classes_half_must_be_learnt_before_one_is_missed() -> None:
    for learnt, expected in ((8, []), (58, []), (59, [validation.NEVER_PREDICTED])):
        dice, targets = many(learnt)
        facts = replace(FACTS, classes=targets, targets=targets, partners={}, channels=118)
        drawn = [replace(record, drawn=dict.fromkeys(targets, 1)) for record in records()]
        found = diagnose(drawn, facts, two(dice=dice, near_dice=dice, predicted_share={"background": 0.9}))
        assert [finding.name for finding in found] == expected, learnt
        assert all("and 50 more" in finding.evidence and len(str(finding)) < 600 for finding in found)


def test_a_class_that_was_never_drawn_is_not_missed() -> None:
    never_drawn = [replace(record, drawn={"left": 2, "right": 0}) for record in records()]
    assert names(never_drawn, checkups=SICK_CHECKUPS[validation.NEVER_PREDICTED]) == []


def test_a_fall_is_judged_by_targets_that_all_scores_are_of() -> None:
    # `left` is in no training patch since the last validation and in no earlier score, and drags the means down.
    before = two(dice={"right": 0.6}, near_dice={"right": 0.7}, training_dice={"right": 0.7})[0]
    now = two(dice={"left": 0.1, "right": 0.6}, near_dice={"left": 0.1, "right": 0.7}, training_dice={"right": 0.7})[1]
    assert names(records(), checkups=[before, now]) == []


def test_false_voxels_in_cases_without_a_target_are_no_fall() -> None:
    known = {"training_dice": {"left": 0.95}, "near_dice": {"left": 0.65}, "present_dice": {"left": 0.6}}
    falls = [two(dice={"left": 0.6}, **known)[0], two(dice={"left": 0.5}, **known)[1]]
    assert names(records(), checkups=falls) == []
    falls[1] = replace(falls[1], present_dice={"left": 0.5})
    assert names(records(), checkups=falls) == [validation.OVER_FITTING]


def training_cases(**odd: TrainingCase) -> dict[str, TrainingCase]:
    usual = {f"case{i}": TrainingCase(20, 0.30 + 0.01 * i, 0.8, 10) for i in range(6)}
    return usual | odd


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (TrainingCase(20, 0.9, 0.2, 10), [cases.STANDS_OUT]),
        (TrainingCase(20, 0.9, None), []),  # a high loss alone says nothing: its organs may be small
        (TrainingCase(20, 0.9, 0.0, 1), []),  # nor does one patch in each of two validations
        (TrainingCase(20, 0.9, 0.7, 10), []),  # hard, and yet it is fitted
        (TrainingCase(20, 0.4, 0.2, 10), []),  # not gross
        (TrainingCase(3, 0.9, 0.2, 3), []),  # too few patches
    ],
)
def test_only_a_gross_outlier_is_told(case: TrainingCase, expected: list[str]) -> None:
    assert names(records(), checkups=two(training=training_cases(odd=case))) == expected


def test_the_worst_cases_are_those_of_the_highest_pooled_loss() -> None:
    early = replace(CHECKUP, step=100, training={"a": TrainingCase(10, 9.0, 0.0, 5)})
    training = {"a": TrainingCase(10, 0.2, 0.9, 5), "b": TrainingCase(10, 0.4, 0.2, 1)}
    late = replace(CHECKUP, step=200, training=training)
    ending = {"a": TrainingCase(0, 0.0, None), "b": TrainingCase(30, 0.1, 0.6, 3), "c": TrainingCase(1, 0.05, None)}
    last = replace(CHECKUP, step=202, training=ending)  # the end of a run: a few patches
    found = cases.worst_cases([early, late, last])
    joined = TrainingCase(40, pytest.approx(0.175), pytest.approx(0.5), 4)  # Dice: (0.2 + 3 * 0.6) / 4
    assert found == [("a", TrainingCase(10, 0.2, 0.9, 5)), ("b", joined), ("c", ending["c"])]
    assert cases.worst_cases([early, late, last], most=1) == found[:1]
    assert [name for name, _ in cases.worst_cases([early, late, last], by="dice")] == ["b", "a"]
    assert cases.worst_cases([]) == []


def test_of_equal_losses_the_lower_dice_is_worse_and_no_number_is_worst() -> None:
    three = {"a": TrainingCase(1, 0.5, 0.9, 1), "b": TrainingCase(1, 0.5, 0.1, 1), "c": TrainingCase(1, nan, None)}
    assert [name for name, _ in cases.worst_cases([replace(CHECKUP, training=three)])] == ["c", "b", "a"]


def test_a_region_that_is_written_as_another_class_is_judged_by_its_dice() -> None:
    facts = replace(FACTS, head="regions", targets=("both", "right"), partners={})
    shares = {"background": 0.97, "left": 0.0, "right": 0.03}  # the region of both sides is written as the right one
    found = two(dice={"both": 0.7, "right": 0.6}, near_dice={"both": 0.7, "right": 0.6}, predicted_share=shares)
    assert names(records(), facts, found) == []
    missed = two(dice={"both": 0.0, "right": 0.6}, near_dice={"both": 0.0, "right": 0.6}, predicted_share=shares)
    assert names(records(), facts, missed) == [validation.NEVER_PREDICTED]


def test_scores_that_say_nothing_new_are_advice() -> None:
    advice = [*SICK_CHECKUPS[validation.FAR_FALSE_ALARMS]], [*SICK_CHECKUPS[validation.OVER_FITTING]]
    advice = [*advice, two(training=training_cases(odd=TrainingCase(20, 0.9, 0.2, 10)))]
    assert [finding.fatal for checkups in advice for finding in diagnose(records(), FACTS, checkups)] == [False] * 3
    fatal = diagnose(records(), FACTS, SICK_CHECKUPS[validation.NOTHING_FOUND])
    assert [finding.fatal for finding in fatal] == [True]
