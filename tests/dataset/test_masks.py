import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.masks import add_mask, as_mask, class_of
from pipeline.errors import UserError
from pipeline.labels import Labels

LABELS = Labels({"a": (4,), "b": (9,), "c": (2,)})
SHAPE = (3, 2, 2)


def mask_of(*voxels: int) -> np.ndarray:
    mask = np.zeros(12, bool)
    mask[list(voxels)] = True
    return mask.reshape(SHAPE)


def test_masks_become_class_indices_whatever_their_values() -> None:
    encoded = np.zeros(SHAPE, np.uint8)
    add_mask(encoded, mask_of(0, 1), "b", LABELS)
    add_mask(encoded, mask_of(5), "a", LABELS)
    assert encoded.ravel().tolist() == [2, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_masks_of_one_class_may_overlap() -> None:
    encoded = np.zeros(SHAPE, np.uint8)
    for voxels in ((0, 1), (1, 2)):
        add_mask(encoded, mask_of(*voxels), "b", LABELS)
    assert encoded.ravel()[:4].tolist() == [2, 2, 2, 0]


def test_masks_that_overlap_are_refused_with_the_pairs_and_their_voxels() -> None:
    encoded = np.zeros(SHAPE, np.uint8)
    add_mask(encoded, mask_of(0, 1, 2), "a", LABELS)
    add_mask(encoded, mask_of(3, 4), "b", LABELS)
    with pytest.raises(UserError, match=r"the mask of c overlaps that of a \(2 voxels\), b \(1 voxels\); .*\[c, a\]"):
        add_mask(encoded, mask_of(1, 2, 3), "c", LABELS)


def test_an_order_of_other_classes_does_not_help() -> None:
    encoded = np.zeros(SHAPE, np.uint8)
    add_mask(encoded, mask_of(0, 1, 2), "a", LABELS)
    with pytest.raises(UserError, match=r"the mask of c overlaps that of a \(1 voxels\)"):
        add_mask(encoded, mask_of(2), "c", LABELS, ("b", "c"))


@given(
    st.permutations("abc"),
    st.permutations("abc"),
    st.lists(st.sets(st.sampled_from("abc")), min_size=12, max_size=12),
)
def test_a_voxel_of_several_goes_to_the_first_of_the_order_however_masks_come(order, coming, owners) -> None:
    encoded = np.zeros(SHAPE, np.uint8)
    for name in coming:
        add_mask(encoded, mask_of(*(voxel for voxel, owned in enumerate(owners) if name in owned)), name, LABELS, order)
    expected = [LABELS.index(min(owned, key=order.index)) if owned else 0 for owned in owners]
    assert encoded.ravel().tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 1, 1], np.uint8),
        np.array([0, 255, 255], np.uint8),
        np.array([0, -1, -1], np.int16),
        np.array([False, True, True]),
    ],
)
def test_a_mask_has_zero_and_one_other_value(values: np.ndarray) -> None:
    assert as_mask(values).tolist() == [False, True, True]


@pytest.mark.parametrize("value", [0, 7])
def test_a_mask_may_be_empty_or_full(value: int) -> None:
    assert as_mask(np.full(3, value)).tolist() == [value != 0] * 3


@pytest.mark.parametrize(("values", "found"), [([0, 1, 2], "0, 1, 2"), ([-1, 0, 1], "-1, 0, 1"), ([1, 2, 2], "1, 2")])
def test_a_label_map_is_no_mask(values: list[int], found: str) -> None:
    with pytest.raises(UserError, match=rf"values {found}; expected the mask of one structure"):
        as_mask(np.array(values, np.int16))


@pytest.mark.parametrize(
    ("structure", "name"),
    [("rib_left_1", "rib_left_1"), ("rib_left_2", "rib_*"), ("ribs", None), ("Rib_left", None), ("l1", "l?")],
)
def test_a_structures_own_name_goes_before_a_pattern(structure: str, name: str | None) -> None:
    assert class_of(structure, ("rib_*", "rib_left_1", "l?")) == name


def test_a_structure_that_fits_two_patterns_is_refused() -> None:
    with pytest.raises(UserError, match=r"the mask rib_1 fits both rib_\* and \*_1"):
        class_of("rib_1", ("rib_*", "*_1"))
