"""Label values, their order, and the way there and back."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.errors import UserError
from pipeline.labels import IGNORE, SLAB_VOX, Labels, Region


def test_classes_are_numbered_from_one_in_the_order_given() -> None:
    labels = Labels({"zebra": (9,), "ant": (3, 4)})
    assert labels.names == ("zebra", "ant")
    assert (labels.index("zebra"), labels.index("ant")) == (1, 2)


def test_values_are_encoded_merged_and_ignored() -> None:
    labels = Labels({"organ": (5, 38), "tumour": (-2,)}, ignore=255, background=(0, 9))
    raw = np.array([[0, 5, 38], [-2, 255, 9]], np.int16)
    encoded = labels.encode(raw)
    assert encoded.dtype == np.uint8
    assert encoded.tolist() == [[0, 1, 1], [2, IGNORE, 0]]


def test_a_merged_class_is_restored_as_its_first_value() -> None:
    labels = Labels({"organ": (5, 38), "tumour": (-2,)}, ignore=255, background=(9, 0))
    restored = labels.restore(np.array([0, 1, 2, IGNORE], np.uint8))
    assert restored.tolist() == [9, 5, -2, 255]


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1, np.uint8), (255, np.uint8), (256, np.int16), (-1, np.int16), (40000, np.uint16), (70000, np.int32)],
)
def test_the_smallest_type_that_holds_all_values_is_written(value: int, kind: type) -> None:
    assert Labels({"a": (value,)}).restore(np.array([1], np.uint8)).dtype == kind


def test_values_far_apart_and_of_every_integer_type_are_encoded() -> None:
    labels = Labels({"a": (-(2**31),), "b": (2**31 - 1,)})
    assert labels.encode(np.array([0, -(2**31), 2**31 - 1], np.int64)).tolist() == [0, 1, 2]
    assert Labels({"a": (200,)}).encode(np.array([200, 0], np.uint8)).tolist() == [1, 0]


def test_an_empty_array_and_one_of_background_are_encoded() -> None:
    labels = Labels({"a": (1,)})
    assert labels.encode(np.zeros((0, 3), np.int16)).shape == (0, 3)
    assert labels.encode(np.zeros((2, 2), np.uint16)).tolist() == [[0, 0], [0, 0]]


@given(
    raw=arrays(
        st.sampled_from([np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64]),
        array_shapes(min_dims=1, max_dims=3, max_side=4),
        elements=st.integers(0, 127),
    ),
    far=st.booleans(),
)
def test_encoding_looks_each_value_up(raw: np.ndarray, far: bool) -> None:
    values = {"a": tuple(range(1, 60)), "b": (127, *([2**31 - 1] if far else []))}
    labels = Labels(values, ignore=100, background=(0, *range(60, 100), *range(101, 127)))
    expected = [1 if 1 <= v < 60 else 2 if v == 127 else IGNORE if v == 100 else 0 for v in raw.ravel().tolist()]
    encoded = labels.encode(raw)
    assert (encoded.dtype, encoded.shape) == (np.uint8, raw.shape)
    assert encoded.ravel().tolist() == expected


def test_labels_of_more_than_one_slab_and_in_any_memory_order_are_encoded() -> None:
    raw = np.arange(3 * SLAB_VOX // 2, dtype=np.int32).reshape(2, 3, -1) % 3
    expected = np.array([0, 2, 1], np.uint8)[raw]
    labels = Labels({"a": (2,), "b": (1,)})
    np.testing.assert_array_equal(labels.encode(raw), expected)
    np.testing.assert_array_equal(labels.encode(raw.T), expected.T)
    np.testing.assert_array_equal(labels.encode(raw[:, ::-1, ::2]), expected[:, ::-1, ::2])


@pytest.mark.parametrize("far", [5, 10**9])
def test_unknown_values_are_counted_over_all_slabs(far: int) -> None:
    raw = np.zeros(SLAB_VOX * 2, np.int64)
    raw[[0, -1]] = 3
    raw[5] = -(2**40)
    with pytest.raises(UserError, match=rf"values -{2**40} \(1 voxels\), 3 \(2 voxels\) belong"):
        Labels({"a": (1,), "b": (far,)}).encode(raw)


def test_all_254_classes_and_ignored_voxels_are_told_from_unknown_values() -> None:
    labels = Labels({str(value): (value,) for value in range(1, 255)}, ignore=255)
    raw = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(labels.encode(raw), raw)
    with pytest.raises(UserError, match=r"256 \(1 voxels\)"):
        labels.encode(np.arange(257, dtype=np.int16))


def test_unknown_values_are_named_with_their_counts() -> None:
    with pytest.raises(UserError, match=r"7 \(2 voxels\), 255 \(1 voxels\).*labels\.ignore"):
        Labels({"a": (1,)}).encode(np.array([0, 1, 7, 7, 255]))


def test_of_many_unknown_values_the_first_are_named() -> None:
    with pytest.raises(UserError, match=r"9 \(1 voxels\) and 92 more"):
        Labels({"a": (1,)}).encode(np.arange(102))


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=30, unique=True), st.randoms())
def test_what_is_encoded_is_restored(values: list[int], random: object) -> None:
    background, *classes = values
    labels = Labels({f"class {value}": (value,) for value in classes}, background=(background,))
    raw = np.array(values * 3, np.int64)
    assert labels.restore(labels.encode(raw)).tolist() == raw.tolist()


def test_mirroring_exchanges_partners_and_nothing_else() -> None:
    labels = Labels({"left": (1,), "middle": (2,), "right": (3,)}, swap=(("left", "right"),))
    assert [labels.swapped(index) for index in (0, 1, 2, 3, IGNORE)] == [0, 3, 2, 1, IGNORE]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"values": {}}, "0 foreground classes"),
        ({"values": {f"c{i}": (i + 1,) for i in range(255)}}, "255 foreground classes; 1 to 254"),
        ({"values": {"a": (0,)}}, "value 0 belongs to both background and a"),
        ({"values": {"a": (1,), "b": (2, 1)}}, "value 1 belongs to both a and b"),
        ({"values": {"a": (1,)}, "ignore": 1}, "value 1 belongs to both a and ignore"),
        ({"values": {"a": ()}}, "labels.a: no value"),
        ({"values": {"a": (2**31,)}}, r"labels.a: value 2147483648; expected -2147483648 to 2147483647"),
        ({"values": {"a": (1,)}, "ignore": 2**32 - 1}, "labels.ignore: value 4294967295"),
        ({"values": {"a": (1,)}, "swap": (("a", "b"),)}, "'b', which is none of a"),
        ({"values": {"a": (1,), "b": (2,), "c": (3,)}, "swap": (("a", "b"), ("b", "c"))}, "more than one pair"),
        ({"values": {"a": (1,)}, "regions": (Region("r", ("a", "x"), "a"),)}, "region r names 'x'"),
        ({"values": {"a": (1,)}, "regions": (Region("r", ("a",), "x"),)}, "region r names 'x'"),
    ],
)
def test_labels_that_contradict_themselves_are_refused(given: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Labels(**given)


def test_labels_come_back_from_json_as_they_were() -> None:
    regions = (Region("both", ("a", "b"), "a"),)
    labels = Labels({"b": (5, 38), "a": (1,)}, regions, ignore=9, swap=(("a", "b"),), background=(0, 7))
    read = Labels.from_json(json.loads(json.dumps(labels.to_json())))
    assert read == labels
    assert read.names == ("b", "a")


def test_a_class_called_background_is_the_background() -> None:
    labels = Labels({"background": 0, "a": 1})
    assert labels.names == ("a",)
    assert labels.background == (0,)
