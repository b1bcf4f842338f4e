"""Dice of one volume: as a whole, near its targets, and with the other side's target."""

from math import isnan

import numpy as np
import pytest

from pipeline.head import Head
from pipeline.labels import Labels, Region
from pipeline.training.volume_scores import partners_of, score_volume

SHAPE = (20, 12, 12)
LUNGS = Labels({"LeftLung": (1,), "RightLung": (2,), "Heart": (3,)})


def volume(**blocks: tuple[int, int, int]) -> np.ndarray:
    """Return labels with 2 x 2 x 2 blocks: l1=(x, y, z) puts class 1 there."""
    labels = np.zeros(SHAPE, np.uint8)
    for name, (x, y, z) in blocks.items():
        labels[x : x + 2, y : y + 2, z : z + 2] = int(name[1])
    return labels


def test_false_alarms_far_away_count_in_the_whole_volume_only() -> None:
    truth = volume(l1=(2, 5, 5))
    prediction = truth.copy()
    prediction[15:17, 5:7, 5:7] = 1
    found = score_volume(truth, prediction, Head("softmax", LUNGS), (8, 8, 8), {})
    assert found.dice["LeftLung"] == 2 * 8 / (8 + 16)
    assert found.near_dice["LeftLung"] == 1.0
    assert isnan(found.dice["Heart"]) and isnan(found.near_dice["Heart"])


def test_near_is_a_patch_around_the_middle_of_the_truth() -> None:
    truth = volume(l1=(4, 5, 5))  # x from 4 to 6, middle 5: a patch of 6 is 2 to 8
    for x, inside in ((2, True), (7, True), (1, False), (8, False)):
        prediction = truth.copy()
        prediction[x, 5, 5] = 1
        found = score_volume(truth, prediction, Head("softmax", LUNGS), (6, 6, 6), {})
        assert found.near_dice["LeftLung"] == (16 / 17 if inside else 1.0), x


def test_a_false_alarm_of_what_the_case_lacks_is_near_to_nothing() -> None:
    found = score_volume(volume(), volume(l1=(4, 5, 5)), Head("softmax", LUNGS), (6, 6, 6), {})
    assert (
        found.dice["LeftLung"] == 0.0 and isnan(found.near_dice["LeftLung"]) and isnan(found.present_dice["LeftLung"])
    )


def test_near_a_target_of_several_pieces_is_near_one_of_them() -> None:
    both = Labels(LUNGS.values, (Region("lungs", ("LeftLung", "RightLung"), "LeftLung"),))
    sides = volume(l1=(2, 5, 5), l2=(14, 5, 5))  # the middle of both, x = 9, is background: a patch of 6 is 6 to 12
    scattered = volume(l1=(0, 0, 0), l3=(9, 5, 5))
    scattered[18:, 10:, 10:] = 1
    for truth, head in ((sides, Head("regions", both)), (scattered, Head("softmax", LUNGS))):
        name = head.target_names[0]
        assert score_volume(truth, truth, head, (6, 6, 6), {}).near_dice[name] == 1.0
        between = truth.copy()
        between[8, 5, 5] = 1
        found = score_volume(truth, between, head, (6, 6, 6), {})
        assert found.near_dice[name] == 1.0 and found.present_dice[name] == found.dice[name] < 1


def test_the_middle_of_a_bent_target_is_in_it() -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:18, 2, 5] = truth[2, 2:10, 5] = truth[17, 2:10, 5] = 1  # a horseshoe, around (9.5, 4, 5)
    missed = np.where(np.indices(SHAPE)[0] < 10, truth, 0)
    found = score_volume(truth, missed, Head("softmax", LUNGS), (4, 2, 2), {})
    # The nearest is (10, 2, 5); x from 8 to 12 has four of its voxels, of which two are found.
    assert found.near_dice["LeftLung"] == 2 * 2 / (4 + 2)


def test_a_target_at_the_border_has_a_patch_that_ends_there() -> None:
    truth = volume(l1=(0, 0, 0))
    found = score_volume(truth, truth, Head("softmax", LUNGS), (6, 6, 6), {})
    assert found.near_dice["LeftLung"] == 1.0


def test_swapped_sides_fit_their_partners() -> None:
    head = Head("softmax", LUNGS)
    truth = volume(l1=(2, 5, 5), l2=(15, 5, 5))
    swapped = volume(l2=(2, 5, 5), l1=(15, 5, 5))
    found = score_volume(truth, swapped, head, (6, 6, 6), partners_of(head))
    assert found.partner_dice == {"LeftLung": 1.0, "RightLung": 1.0}
    assert found.dice["LeftLung"] == 0.0
    one = score_volume(volume(l1=(2, 5, 5)), swapped, head, (6, 6, 6), partners_of(head))
    assert isnan(one.partner_dice["LeftLung"]) and isnan(one.partner_dice["RightLung"])


def test_voxels_that_the_truth_ignores_do_not_count() -> None:
    truth, prediction = volume(l1=(4, 5, 5)), volume(l1=(4, 5, 5))
    truth[6, 5, 5], prediction[6, 5, 5] = 255, 1
    found = score_volume(truth, prediction, Head("softmax", LUNGS), (6, 6, 6), {})
    assert (found.dice["LeftLung"], found.near_dice["LeftLung"]) == (1.0, 1.0)
    assert sum(found.truth_voxels) == sum(found.predicted_voxels) == truth.size - 1


def test_a_region_is_scored_as_the_union_of_its_classes() -> None:
    labels = Labels(LUNGS.values, (Region("lungs", ("LeftLung", "RightLung"), "LeftLung"),))
    truth = volume(l1=(2, 5, 5), l2=(8, 5, 5))
    prediction = volume(l2=(2, 5, 5), l1=(8, 5, 5))  # a wrong side is within the union
    found = score_volume(truth, prediction, Head("regions", labels), (12, 8, 8), {})
    assert (found.dice, found.near_dice) == ({"lungs": 1.0}, {"lungs": 1.0})


@pytest.mark.parametrize(
    ("labels", "kind", "partners"),
    [
        (Labels({"a": (1,), "b": (2,), "c": (3,)}, swap=(("a", "c"),)), "softmax", {"a": "c", "c": "a"}),
        (LUNGS, "sigmoid", {"LeftLung": "RightLung", "RightLung": "LeftLung"}),
        (Labels({"kidney_left": (1,), "liver": (2,)}), "softmax", {}),  # its other side is no class
        (
            Labels(
                {"a": (1,), "b": (2,)}, (Region("one", ("a",), "a"), Region("two", ("b",), "b"),
                                         Region("both", ("a", "b"), "a")), swap=(("a", "b"),),
            ),
            "regions", {"one": "two", "two": "one"},
        ),
    ],
    ids=["swap", "names", "alone", "regions"],
)  # fmt: skip
def test_partners_are_told_by_swap_or_else_by_name(labels: Labels, kind: str, partners: dict[str, str]) -> None:
    assert partners_of(Head(kind, labels)) == partners
