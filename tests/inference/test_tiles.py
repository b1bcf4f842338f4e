"""Windows cover the volume, where MONAI puts them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from pipeline.inference.tiles import starts_along, window_starts

axes = st.tuples(st.integers(4, 12), st.integers(0, 20))
overlaps = st.floats(0, 0.95)


def test_a_window_as_large_as_the_axis_needs_one() -> None:
    assert starts_along(48, 48, 0.5) == [0]


def test_the_last_window_ends_with_the_axis() -> None:
    assert starts_along(100, 48, 0.5) == [0, 24, 48, 52]


@given(st.tuples(axes, axes, axes), overlaps)
def test_every_voxel_is_covered(sizes: tuple, overlap: float) -> None:
    windows = tuple(window for window, _ in sizes)
    shape = tuple(window + more for window, more in sizes)
    covered = np.zeros(shape, bool)
    for start in window_starts(shape, windows, overlap):
        box = tuple(slice(first, first + n) for first, n in zip(start, windows, strict=True))
        assert covered[box].shape == windows
        covered[box] = True
    assert covered.all()


@given(st.tuples(axes, axes, axes), overlaps)
def test_positions_are_those_of_monai(sizes: tuple, overlap: float) -> None:
    windows = tuple(window for window, _ in sizes)
    shape = tuple(window + more for window, more in sizes)
    interval = _get_scan_interval(shape, windows, 3, (overlap,) * 3)
    expected = [tuple(s.start for s in slices) for slices in dense_patch_slices(shape, windows, interval)]
    assert sorted(set(window_starts(shape, windows, overlap))) == sorted(set(expected))
