"""Stored numbers as HU and as label values, beyond what the readers of formats show."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.formats.values import SLAB_VOX, UNSCALED, to_hu, to_integers

FILE = Path("case.nii.gz")
LARGE = (5, 2, SLAB_VOX // 4)  # two planes a slab, the last slab has one


@pytest.mark.parametrize("odd", [0.5, 40000.0])
@pytest.mark.parametrize("plane", [0, 4])
def test_one_hu_that_int16_cannot_hold_makes_all_float32(plane: int, odd: float) -> None:
    raw = np.full(LARGE, -1000.0)
    assert to_hu(raw, UNSCALED, FILE).dtype == np.int16
    raw[plane, 1, 7] = odd
    hu = to_hu(raw, UNSCALED, FILE)
    assert hu.dtype == np.float32
    np.testing.assert_array_equal(hu, raw)


def test_slope_and_intercept_are_applied_in_every_slab() -> None:
    raw = np.broadcast_to(np.arange(5, dtype=np.uint16)[:, None, None], LARGE)
    np.testing.assert_array_equal(to_hu(raw, (2, -1024), FILE), 2 * raw.astype(np.int16) - 1024)
    np.testing.assert_array_equal(to_hu(raw, (0.5, 0), FILE), raw / 2)


def test_int16_and_float32_are_not_copied() -> None:
    for raw in (np.zeros((2, 2, 2), np.int16), np.full((2, 2, 2), 0.5, np.float32)):
        assert to_hu(raw, UNSCALED, FILE) is raw


def test_voxels_that_are_no_number_are_counted_over_all_slabs() -> None:
    raw = np.zeros(LARGE, np.float32)
    raw[0, 0, 0], raw[4, 1, 1] = np.nan, np.inf
    for convert in (to_hu, to_integers):
        with pytest.raises(UserError, match=f"2 of {raw.size} voxels"):
            convert(raw, UNSCALED, FILE)


def test_fractions_are_counted_over_all_slabs_and_the_first_is_shown() -> None:
    raw = np.zeros(LARGE, np.float32)
    raw[1, 0, 0], raw[4, 1, 1] = 2.5, 3.5
    with pytest.raises(UserError, match=r"label value 2\.5 \(and 2 voxels like it\).*this is no label map"):
        to_integers(raw, UNSCALED, FILE)
    with pytest.raises(UserError, match=r"rescaled to 0\.\.1"):
        to_integers(raw / 10, UNSCALED, FILE)


def test_whole_numbers_become_int32_in_every_slab() -> None:
    raw = np.broadcast_to(np.float64([0, 7, 255, -2, 2**30])[:, None, None], LARGE)
    whole = to_integers(raw, UNSCALED, FILE)
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(whole, raw)
