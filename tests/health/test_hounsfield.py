"""Whether values are HU, on images whose shares are known by construction."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.formats.dispatch import read_image
from pipeline.health.examination import extremes_of
from pipeline.health.hounsfield import Shares, Verdict, shares_of, verdict_on
from pipeline.volume.intensity import histogram

EXAMPLES = sorted((Path(__file__).parents[2] / "examples/head_neck/images").glob("*.nii.gz"))


def voxels_of(*parts: tuple[int, float, float]) -> np.ndarray:
    """Return an image of parts (count, low, high), with values evenly spaced from low to high each."""
    return np.concatenate([np.linspace(low, high, count) for count, low, high in parts]).astype(np.float32)


def judged(voxels: np.ndarray) -> Verdict | None:
    extremes = extremes_of(voxels)
    return verdict_on(shares_of(histogram(voxels), extremes), extremes)


def what_of(voxels: np.ndarray) -> str | None:
    verdict = judged(voxels)
    return verdict and verdict.what


BODY = (4000, -95, 95), (1000, 205, 495)


def test_shares_are_those_of_the_parts() -> None:
    voxels = voxels_of((100, -3024, -3024), (300, -1045, -955), (400, -45, -5), (100, 5, 45), (100, 905, 1095))
    shares = shares_of(histogram(voxels), extremes_of(voxels))
    assert shares == pytest.approx(Shares(0.4, 0.6, 0.8, 500 / 600, 100 / 600, 0, 0.1, 1 / 600))


@pytest.mark.parametrize(("padding", "soft", "shifted"), [(300, 0.5, 0.5), (0, 10 / 11, 0.5), (1000, 0.5, 10 / 11)])
def test_padding_does_not_count_as_body_unless_it_is_in_the_range(padding: int, soft: float, shifted: float) -> None:
    voxels = voxels_of((900, padding, padding), (100, -95, 95), (100, 905, 1095))
    shares = shares_of(histogram(voxels), extremes_of(voxels))
    assert (shares.soft, shares.shifted) == pytest.approx((soft, shifted), abs=0.02)  # its bin has some tissue, too


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_real_cts_with_padding_metal_and_table_are_hu(path: Path) -> None:
    assert judged(read_image(path).voxels) is None


@pytest.mark.parametrize("padding", [-1000, -1024, -2000, -3024, 0, -500])
def test_what_a_scanner_fills_up_with_does_not_matter(padding: int) -> None:
    air = voxels_of((5000, -1045, -955))
    filled = np.full(90_000, padding)
    assert judged(np.concatenate([voxels_of(*BODY), air, filled])) is None


def test_metal_does_not_matter() -> None:
    assert judged(voxels_of(*BODY, (3000, -1045, -955), (5, 26_000, 26_000))) is None


def test_a_crop_inside_the_body_has_no_air_and_is_hu() -> None:
    assert judged(voxels_of(*BODY)) is None


@pytest.mark.parametrize("offset", [1000, 1024])
def test_air_stored_as_zero_is_an_error_with_the_intercept_as_cure(offset: int) -> None:
    voxels = np.concatenate([voxels_of(*BODY, (3000, -1045, -955)), np.full(90_000, -1024)]) + offset
    verdict = judged(voxels.clip(0))
    assert verdict is not None
    assert (verdict.severity, verdict.what) == ("error", "HU shifted")
    assert "add -1024 to the intercept" in verdict.cure


@pytest.mark.parametrize("path", EXAMPLES[:2], ids=lambda path: path.name)
def test_a_real_ct_stored_unsigned_is_an_error(path: Path) -> None:
    assert what_of((read_image(path).voxels.astype(np.int32) + 1024).astype(np.uint16)) == "HU shifted"


@pytest.mark.parametrize(("dense", "what"), [(90, None), (100, "HU shifted")])
def test_a_tenth_of_the_body_as_dense_as_teeth_is_too_much_where_there_is_no_air(dense: int, what: str | None) -> None:
    bone = (2, 1300, 1400), (1, 1500, 1500)  # without it, the signs would be reversed
    voxels = voxels_of((1000 - dense, -95, 95), (dense, 905, 1095), *bone)  # less the 48 in the fullest bin
    assert what_of(voxels) == what


@pytest.mark.parametrize(("air", "what"), [(0, "HU shifted"), (1, "HU shifted"), (2, None)])
def test_air_below_tissue_says_that_nothing_is_shifted(air: int, what: str | None) -> None:
    bone = (2, 1300, 1400), (1, 1500, 1500)
    voxels = voxels_of((797 - air, -95, 95), (200, 905, 1095), *bone, (air, -1000, -990))
    assert what_of(voxels) == what  # 2 of 1000 are over a thousandth


def test_denser_leaves_out_what_has_the_highest_value_if_that_lies_there() -> None:
    padded = voxels_of((60, 5, 45), (10, 1205, 1295), (30, 3024, 3024))
    assert shares_of(histogram(padded), extremes_of(padded)).denser == pytest.approx(0.1)
    low = voxels_of((60, 5, 45), (40, 1105, 1105))  # the highest value is of those that do not count anyway
    assert shares_of(histogram(low), extremes_of(low)).denser == 0


@pytest.mark.parametrize("path", EXAMPLES[:2], ids=lambda path: path.name)
def test_a_real_ct_with_its_signs_reversed_is_an_error_with_both_signs_as_cure(path: Path) -> None:
    verdict = judged(-read_image(path).voxels)
    assert verdict is not None
    assert (verdict.severity, verdict.what) == ("error", "not HU")
    assert "reverse the signs of slope and intercept" in verdict.cure


def test_reversed_padding_that_is_beyond_reversed_air_does_not_matter() -> None:
    verdict = judged(-voxels_of(*BODY, (3000, -1045, -955), (4000, -2000, -2000)))
    assert verdict is not None
    assert "reverse the signs" in verdict.cure


def is_reversed(voxels: np.ndarray) -> bool:
    verdict = judged(voxels)
    return verdict is not None and "reverse the signs" in verdict.cure


@pytest.mark.parametrize(("thin", "reverse"), [(90, False), (100, True)])
def test_a_tenth_of_the_body_near_1000_is_air_with_its_sign_reversed(thin: int, reverse: bool) -> None:
    assert (
        is_reversed(voxels_of((1000 - thin, -95, 95), (thin, 905, 1095))) is reverse
    )  # less the 48 in the fullest bin


@pytest.mark.parametrize(("air", "reverse"), [(10, True), (11, False)])
def test_more_than_a_hundredth_near_minus_1000_is_air_and_no_bone(air: int, reverse: bool) -> None:
    assert is_reversed(voxels_of((1000 - 300 - air, -95, 95), (300, 905, 1095), (air, -1000, -990))) is reverse


@pytest.mark.parametrize(("bone", "what"), [(1, "not HU"), (2, "HU shifted")])
def test_above_air_with_its_sign_reversed_is_nothing_and_above_shifted_soft_tissue_bone(bone: int, what: str) -> None:
    # 1300 is bone; the highest value is one voxel, which never counts.
    body = (699 - bone, -95, 95), (300, 905, 1095), (bone, 1300, 1300)
    assert what_of(voxels_of(*body, (1, 1500, 1500))) == what


@pytest.mark.parametrize(("low", "high"), [(-200, 400), (-160, 240), (-1000, 500), (-500, 2000)])
def test_a_real_ct_that_was_cut_off_is_a_warning_with_the_window_that_is_left(low: int, high: int) -> None:
    verdict = judged(read_image(EXAMPLES[0]).voxels.clip(low, high))
    assert verdict is not None
    assert (verdict.severity, verdict.what) == ("warning", "HU cut off")
    assert f"intensity.window_hu within {low} to {high}" in verdict.cure


@pytest.mark.parametrize(("low", "high"), [(-1024, 3071), (-1000, 2000)])
def test_limits_outside_what_bodies_have_are_no_cut(low: int, high: int) -> None:
    assert judged(read_image(EXAMPLES[0]).voxels.clip(low, high)) is None


@pytest.mark.parametrize(("held", "what"), [(9, None), (10, "HU cut off")])
@pytest.mark.parametrize("value", [-300, 600])
def test_a_hundredth_of_the_voxels_at_an_end_is_a_cut(held: int, what: str | None, value: int) -> None:
    assert what_of(voxels_of((1000 - held, -95, 95), (held, value, value))) == what


def test_a_picture_of_8_bits_is_an_error() -> None:
    grey = (read_image(EXAMPLES[0]).voxels.clip(-160, 240).astype(np.float32) + 160) / 400 * 255
    assert what_of(grey.round()) == "8-bit picture"


@pytest.mark.parametrize(("soft", "what"), [(149, "not HU"), (150, None)])
def test_less_than_15_percent_of_soft_tissue_is_no_body(soft: int, what: str | None) -> None:
    assert what_of(voxels_of((1000, -1045, -955), (soft, -95, 95), (1000 - soft, -895, -305))) == what


def test_values_shifted_twice_are_an_error() -> None:
    assert what_of(read_image(EXAMPLES[0]).voxels.astype(np.int32) - 1024) == "not HU"


def test_a_volume_without_a_voxel_above_air_has_shares() -> None:
    voxels = voxels_of((10, -2000, -2000), (90, -1045, -955))
    assert shares_of(histogram(voxels), extremes_of(voxels)) == Shares(1, 0, 1, 0, 0, 0, 0.1, 0)


@pytest.mark.parametrize(("below", "what"), [(0, "nothing below 0"), (1, None)])
def test_a_thousandth_of_the_voxels_lies_below_zero(below: int, what: str | None) -> None:
    voxels = voxels_of((1000 - below, 5, 295), (below, -5, -5))
    assert what_of(voxels) == what


def test_nothing_but_air_is_not_hu_of_a_body() -> None:
    assert what_of(voxels_of((1000, -1045, -955))) == "not HU"
