"""HU to network input."""

import numpy as np
import pytest

from pipeline.volume.intensity import BINS, Intensity, histogram, standardisation


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.float64])
def test_scale_clips_to_the_window_and_maps_it_to_zero_to_one(kind: type) -> None:
    hu = np.array([-1024, -200, 100, 400, 3000], kind)
    scaled = Intensity((-200, 400)).scale(hu)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, np.float32([0, 0, 0.5, 1, 1]))
    assert hu.tolist() == [-1024, -200, 100, 400, 3000]  # the input is left alone


def test_gamma_is_a_power_of_the_scaled_value() -> None:
    scaled = Intensity((0, 100), gamma=0.5).scale(np.array([0, 25, 100]))
    np.testing.assert_allclose(scaled, [0, 0.5, 1], rtol=1e-6)


def test_apply_standardises_the_scaled_value() -> None:
    applied = Intensity((0, 100), mean=0.25, std=0.5).apply(np.array([0, 25, 75], np.int16))
    np.testing.assert_allclose(applied, [-0.5, 0, 1], rtol=1e-6)
    assert applied.dtype == np.float32


def test_air_is_exactly_what_apply_makes_of_it() -> None:
    rule = Intensity((-1100, 413), gamma=0.83, mean=0.371, std=0.129)
    assert rule.air() == rule.apply(np.full((3, 3, 3), -1024, np.int16))[1, 1, 1]


def test_json_gives_the_same_rule() -> None:
    rule = Intensity((-200.0, 400.0), 0.8, 1 / 3, 0.1)
    assert Intensity.from_json(rule.to_json()) == rule


def test_histogram_of_a_large_volume_equals_that_of_numpy() -> None:
    hu = np.random.default_rng(0).integers(-1030, 3070, (130, 128, 130)).astype(np.int16)  # counted in three parts
    expected, _ = np.histogram(hu, bins=BINS, range=(-1030, 3070))
    np.testing.assert_array_equal(histogram(hu), expected)


def test_histogram_counts_every_voxel_once_at_the_right_bin() -> None:
    counts = histogram(np.array([-32768, -1030, -1021, -1020, 0, 9, 10, 3069, 3070, 32767], np.int16))
    assert counts.shape == (BINS,) == (410,)
    assert {int(i): int(counts[i]) for i in np.flatnonzero(counts)} == {0: 3, 1: 1, 103: 2, 104: 1, 409: 3}


def test_standardisation_is_mean_and_deviation_of_the_windowed_body() -> None:
    generator = np.random.default_rng(0)
    cases = [generator.normal(50, 150, 20_000).round().astype(np.int16), generator.normal(-50, 90, 5_000)]
    air = np.full(30_000, -1000)
    found = standardisation([histogram(np.append(hu, air)) for hu in cases], (-200, 400), 0.8)
    scaled = Intensity((-200, 400), 0.8).scale(np.concatenate(cases))
    assert found == pytest.approx((scaled.mean(), scaled.std()), abs=0.01)  # a bin is 10 of 600 HU


def test_standardisation_never_divides_by_zero() -> None:
    assert standardisation([], (-200, 400), 1) == (0, 1)
    assert standardisation([histogram(np.full(10, -1000))], (-200, 400), 1) == (0, 1)
    assert standardisation([histogram(np.full(10, 900))], (-200, 400), 1) == (1, 1)
