"""Class weights from voxel counts."""

import pytest

from pipeline.config.loss import LossSection
from pipeline.labels import IGNORE
from pipeline.losses.balance import class_weights_of
from pipeline.losses.build import build

COUNTS = {0: 9_000_000, 1: 40_000, 2: 10_000, 3: 2_500, IGNORE: 10**9}


def test_under_softmax_by_hand(heads):
    # the median of four is (40,000 + 10,000) / 2
    weights = class_weights_of(COUNTS, heads["softmax"])
    expected = [(25_000 / voxels) ** 0.5 for voxels in (9_000_000, 40_000, 10_000, 2_500)]
    assert weights.tolist() == pytest.approx(expected)


def test_under_sigmoid_background_has_no_say(heads):
    assert class_weights_of(COUNTS, heads["sigmoid"]).tolist() == pytest.approx([0.5, 1.0, 2.0])


def test_a_region_counts_all_its_classes(heads):
    # organ 40,000 + 10,000, lesion 10,000: the median is 30,000
    expected = [(30 / 50) ** 0.5, 3**0.5]
    assert class_weights_of(COUNTS, heads["regions"]).tolist() == pytest.approx(expected)


def test_a_class_without_voxels_counts_one(heads):
    assert class_weights_of({0: 400, 1: 100}, heads["sigmoid"]).tolist() == [1, 1, 1]
    assert class_weights_of({}, heads["softmax"]).tolist() == [1, 1, 1, 1]


def test_auto_takes_them_and_is_equal_weights_without_counts(heads):
    section = LossSection(class_weights="auto")
    loss = build(section, heads["sigmoid"], voxel_counts=COUNTS)
    assert loss.class_weights.tolist() == pytest.approx([0.5, 1.0, 2.0])
    assert build(section, heads["sigmoid"]).class_weights.tolist() == [1, 1, 1]
