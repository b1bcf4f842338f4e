from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.foreground import choose, foreground_coordinates


def test_a_small_class_has_all_its_voxels_and_background_and_ignored_ones_are_none() -> None:
    encoded = np.zeros((4, 5, 6), np.uint8)
    encoded[1, 2, 3], encoded[0, 0, 0], encoded[3, 4, 5], encoded[2, 2, 2] = 7, 7, 254, 255
    found = foreground_coordinates(encoded)
    assert {label: voxels.tolist() for label, voxels in found.items()} == {
        7: [[0, 0, 0], [1, 2, 3]],
        254: [[3, 4, 5]],
    }
    assert all(voxels.dtype == np.int32 for voxels in found.values())


def test_no_class_is_nothing() -> None:
    assert foreground_coordinates(np.full((3, 3, 3), 255, np.uint8)) == {}


def test_of_a_large_class_every_object_has_a_hundred_voxels_or_all() -> None:
    encoded = np.zeros((70, 60, 50), np.uint8)
    encoded[:60] = 1  # 180,000 voxels
    encoded[65:69, 10:20, 10:20] = 1  # 400 voxels: in proportion it would have 22 of 10,000
    encoded[65:67, 40:42, 40:42] = 1  # 8 voxels
    encoded[68, 50, 40] = encoded[69, 51, 41] = 1  # 2 voxels that touch at a corner: one object
    voxels = foreground_coordinates(encoded)[1]
    assert voxels.shape == (10_000, 3)
    assert (encoded[tuple(voxels.T)] == 1).all()
    assert len(np.unique(voxels, axis=0)) == 10_000
    outside = voxels[voxels[:, 0] >= 60]
    large = (outside[:, 1] < 30).sum()
    assert 100 <= large < 200
    assert len(outside) - large == 10


def test_the_sample_is_spread_over_the_object() -> None:
    voxels = foreground_coordinates(np.ones((50, 50, 50), np.uint8))[1]
    for axis in range(3):
        share = np.histogram(voxels[:, axis], 5, (0, 50))[0] / len(voxels)
        assert np.abs(share - 0.2).max() < 0.02  # five deviations of a share of 0.2 among 10,000


def test_the_same_labels_give_the_same_voxels() -> None:
    encoded = (np.random.default_rng(0).random((40, 40, 40)) < 0.5).astype(np.uint8)
    np.testing.assert_array_equal(foreground_coordinates(encoded)[1], foreground_coordinates(encoded.copy())[1])


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=300), st.integers(0, 100))
def test_no_class_has_more_than_ten_thousand_and_objects_share_fairly(sizes: list[int], seed: int) -> None:
    component = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)) * 3 + 5, sizes))
    chosen = choose(component)
    assert len(chosen) == min(10_000, len(component))
    assert (np.diff(chosen) > 0).all()
    have = Counter(component[chosen].tolist())
    least = 100
    while sum(min(size, least) for size in sizes) > 10_000:
        least -= 1
    assert all(have[number * 3 + 5] >= min(size, least) for number, size in enumerate(sizes))


def test_more_objects_than_voxels_to_keep_leave_some_out() -> None:
    chosen = choose(np.arange(12_000))
    assert len(chosen) == 10_000
    assert chosen.max() > 11_000  # and not only the last ones
