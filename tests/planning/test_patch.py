"""Patches of a body's shape: by hand, and what holds for any shape and any number of voxels."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning.patch import batch_of, halved, ideal_patch, legal_patch, round_up

Int3 = tuple[int, int, int]
shapes = st.tuples(st.integers(1, 600), st.integers(1, 600), st.integers(1, 600))
powers = st.sampled_from([1, 2, 4, 8, 16, 32])
multiples = st.tuples(powers, powers, powers)


def test_an_ideal_patch_has_the_bodys_proportions() -> None:
    assert ideal_patch((200, 100, 100), 2_000_000 / 8) == pytest.approx((100, 50, 50))


def test_a_patch_is_never_larger_than_the_body() -> None:
    assert ideal_patch((20, 30, 40), 1e9) == (20, 30, 40)


def test_a_stack_of_few_slices_keeps_them() -> None:
    assert ideal_patch((400, 400, 12), 12 * 100 * 100) == pytest.approx((100, 100, 12))
    assert ideal_patch((400, 400, 20), 16 * 100 * 100) == pytest.approx((100, 100, 16))


@given(shapes, st.floats(0, 1e8), multiples)
def test_a_legal_patch_divides_and_stays_within_its_voxels(shape: Int3, voxels: float, multiple: Int3) -> None:
    smallest = tuple(step + 1 for step in multiple)
    patch = legal_patch(ideal_patch(shape, voxels), shape, voxels, multiple, smallest)
    least = [round_up(size, step) for size, step in zip(smallest, multiple, strict=True)]
    assert all(size % step == 0 for size, step in zip(patch, multiple, strict=True))
    assert all(size >= low for size, low in zip(patch, least, strict=True))
    assert prod(patch) <= voxels or list(patch) == least
    for size, body, step, low in zip(patch, shape, multiple, least, strict=True):
        assert size <= max(low, round_up(body, step))


@given(shapes, st.floats(1, 1e8), multiples)
def test_no_axis_of_a_legal_patch_could_grow(shape: Int3, voxels: float, multiple: Int3) -> None:
    patch = legal_patch(ideal_patch(shape, voxels), shape, voxels, multiple, (1, 1, 1))
    for axis in range(3):
        larger = [size + step * (other == axis) for other, (size, step) in enumerate(zip(patch, multiple, strict=True))]
        assert prod(larger) > voxels or larger[axis] > round_up(shape[axis], multiple[axis])


def test_half_a_patch_is_legal_too() -> None:
    assert halved((96, 80, 16), (16, 16, 8), (17, 17, 9)) == (48, 32, 16)


@pytest.mark.parametrize(
    ("voxels", "patch_voxels", "data_voxels", "batch"),
    [
        (100.0, 90, 1e9, 2),  # not even two fit: two all the same, the patch is made smaller elsewhere
        (500.0, 100, 1e9, 5),  # as many as there is room for
        (500.0, 100, 8000.0, 4),  # 20 times 4 x 100 are all there is
        (500.0, 100, 300.0, 2),  # two at least
    ],
)
def test_a_batch_fills_what_is_left(voxels: float, patch_voxels: int, data_voxels: float, batch: int) -> None:
    assert batch_of(voxels, patch_voxels, data_voxels)[0] == batch
