"""Classes taken from those that a store was prepared with."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.labels import Labels
from pipeline.store.classes import class_table
from pipeline.store.reader import PreparedCase

STORED = Labels({"liver": (1,), "spleen": (2,), "tumour": (3, 5)}, ignore=9)
STORE = Path("store")


@pytest.mark.parametrize(
    ("wanted", "becomes"),
    [
        (STORED, {0: 0, 1: 1, 2: 2, 3: 3, 255: 255}),
        (Labels({"organ": (1, 2), "tumour": (5, 3)}, ignore=9), {0: 0, 1: 1, 2: 1, 3: 2, 255: 255}),
        (Labels({"liver": (1,)}, ignore=9, background=(0, 2, 3, 5)), {0: 0, 1: 1, 2: 0, 3: 0, 255: 255}),
        (Labels({"all": (5, 1, 2, 3)}, background=(0, 9)), {0: 0, 1: 1, 2: 1, 3: 1, 255: 0}),
        (Labels({"tumour": (3, 5), "liver": (1,)}, ignore=2, background=(0, 9)), {0: 0, 1: 2, 2: 255, 3: 1, 255: 0}),
    ],
)
def test_each_stored_class_becomes_one_of_the_wanted(wanted: Labels, becomes: dict[int, int]) -> None:
    table = class_table(STORED, wanted, STORE)
    assert {index: int(table[index]) for index in becomes} == becomes
    assert (table.shape, table.dtype) == ((256,), np.uint8)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Labels({"liver": (1,), "kidney": (4,)}, ignore=9, background=(0, 2, 3, 5)), "value 4 was not prepared"),
        (Labels({"liver": (1,)}, ignore=9), "it says nothing of value 2, which may go under labels.background"),
        (
            Labels({"liver": (1, 2), "tumour": (3,), "cyst": (5,)}, ignore=9),
            r"values \[3, 5\] were prepared as one and cannot be told apart",
        ),
        (Labels({"air": (0,), "rest": (1, 2, 3, 5)}, background=(9,)), "value 0 was prepared as background"),
        (Labels({"rest": (1, 2, 3, 5)}, ignore=0, background=(9,)), "value 0 was prepared as background"),
        (Labels({"strange": (9,), "rest": (1, 2, 3, 5)}), "value 9 was prepared as ignored"),
    ],
)
def test_what_cannot_be_taken_from_the_store_is_refused(wanted: Labels, reason: str) -> None:
    with pytest.raises(
        UserError, match=rf"^labels: .* cannot be taken from .*, which store .* with: {reason}\. Change"
    ):
        class_table(STORED, wanted, STORE)


def test_classes_are_named_as_in_a_config() -> None:
    with pytest.raises(UserError, match=r"^labels: \{liver: \[1\], kidney: \[4\]\} cannot be taken from \{liver: \["):
        class_table(STORED, Labels({"liver": (1,), "kidney": (4,)}), STORE)


def test_a_name_that_found_a_mask_keeps_its_values() -> None:
    stored = Labels({"liver": (1,), "spleen": (2,)})
    exchanged = Labels({"spleen": (1,), "liver": (2,)})
    assert class_table(stored, exchanged, STORE)[1] == 1
    with pytest.raises(UserError, match=r"the mask of spleen was prepared as \[2\]"):
        class_table(stored, exchanged, STORE, named=True)
    assert class_table(stored, Labels({"organ": (1, 2)}), STORE, named=True)[2] == 1


@pytest.fixture
def encoded() -> np.ndarray:
    return np.random.default_rng(3).choice([0, 0, 1, 2, 3, 255], (9, 8, 7)).astype(np.uint8)


def test_a_case_seen_with_other_classes_is_one_that_was_stored_with_them(make_case, encoded) -> None:
    table = class_table(STORED, Labels({"tumour": (3, 5), "organ": (1, 2)}, ignore=9), STORE)
    seen = PreparedCase.open(make_case(encoded=encoded)[0]).seen_as(table)
    expected = table[encoded]
    np.testing.assert_array_equal(seen.read((-1, 2, 3), (6, 9, 4))[1], np.pad(expected, 9)[8:14, 11:20, 12:16])
    assert seen.counts == {value: (expected == value).sum() for value in (0, 1, 2, 255)}
    assert seen.put_back == {1: 1}
    for index in (1, 2):
        found = seen.foreground(index)
        assert {tuple(voxel) for voxel in found} == {tuple(voxel) for voxel in np.argwhere(expected == index)}
        assert len(found) == seen.stored_foreground[index] == (expected == index).sum()
        assert [list(seen.foreground_voxel(index, number)) for number in range(len(found))] == found.tolist()
    assert seen.foreground(3).shape == (0, 3)


def test_what_was_done_to_labels_is_not_done_to_the_store(make_case, encoded) -> None:
    case = PreparedCase.open(make_case(encoded=encoded)[0])
    seen = case.seen_as(class_table(STORED, Labels({"all": (1, 2, 3, 5)}, ignore=9), STORE))
    seen.read((0, 0, 0), (9, 8, 7))[1][:] = 77
    np.testing.assert_array_equal(case.read((0, 0, 0), (9, 8, 7))[1], encoded)


def test_a_case_may_be_seen_twice_and_sent_to_another_process(make_case, encoded) -> None:
    swap, merge = np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8)
    swap[[1, 2]] = 2, 1
    merge[[1, 3]] = 3, 0
    seen = PreparedCase.open(make_case(encoded=encoded)[0]).seen_as(swap).seen_as(merge)
    sent = pickle.loads(pickle.dumps(seen))
    expected = merge[swap[encoded]]
    np.testing.assert_array_equal(sent.read((0, 0, 0), encoded.shape)[1], expected)
    np.testing.assert_array_equal(sent.foreground(3), np.argwhere(expected == 3))


def test_a_case_without_what_changes_is_left_as_it_is(make_case) -> None:
    case = PreparedCase.open(make_case(encoded=np.ones((3, 3, 3), np.uint8))[0])
    assert case.seen_as(class_table(STORED, Labels({"liver": (1,)}, ignore=9, background=(0, 2, 3, 5)), STORE)) is case


@pytest.mark.parametrize(("index", "becomes"), [(0, 1), (0, 255), (255, 1)])
def test_background_stays_and_ignored_voxels_become_no_class(make_case, index: int, becomes: int) -> None:
    table = np.arange(256, dtype=np.uint8)
    table[index] = becomes
    with pytest.raises(ValueError, match="background must stay background, and ignored voxels cannot become a class"):
        PreparedCase.open(make_case()[0]).seen_as(table)
