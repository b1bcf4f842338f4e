from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest

from pipeline.config.augment import AugmentSection
from pipeline.sampling.intensities import (
    NORMAL,
    Strengths,
    change_intensities,
    draw_strengths,
    gaussian_noise,
    low_resolution_matrix,
)

EVERY = (True, True, True)
NAMES = [field.name for field in fields(Strengths)]
KEYS = {
    "noise_std": "noise", "blur_vox": "blur", "low_resolution": "low_resolution", "brightness": "brightness",
    "contrast": "contrast", "gamma_inverted": "gamma_inverted", "gamma": "gamma",
}  # fmt: skip
ALWAYS = AugmentSection(**{f"{key}_probability": 1.0 for key in KEYS.values()})
NOTHING = Strengths(**dict.fromkeys(NAMES))


def patch(seed=0, shape=(12, 10, 8)):
    return np.random.default_rng(seed).random(shape, np.float32)


def change(scaled, fine=EVERY, random=None, **strengths):
    given_strengths = Strengths(**dict.fromkeys(NAMES) | strengths)
    return change_intensities(scaled.copy(), given_strengths, fine, random or np.random.default_rng(0))


@pytest.mark.parametrize(
    ("strengths", "expected"),
    [
        ({"brightness": 2.0}, [0.0, 0.4, 1.0]),
        ({"contrast": 2.0}, [0.0, 0.1, 1.0]),  # about the mean 0.3: -0.3, 0.1 and 1.1, clipped
        ({"brightness": 0.5, "contrast": 2.0}, [0.0, 0.05, 0.55]),  # 0, 0.1, 0.35 about their mean 0.15
        ({"gamma": 2.0}, [0.0, 0.04, 0.49]),
        ({"gamma_inverted": 2.0}, [0.0, 0.36, 0.91]),  # 1 - 0.8^2 and 1 - 0.3^2
        ({"gamma_inverted": 2.0, "gamma": 0.5}, [0.0, 0.6, 0.91**0.5]),
    ],
)
def test_brightness_contrast_and_gamma_do_what_they_say(strengths, expected):
    changed = change(np.array([0.0, 0.2, 0.7], np.float32), **strengths)
    np.testing.assert_allclose(changed, expected, atol=1e-6)
    assert changed.dtype == np.float32


@pytest.mark.parametrize("power", [0.3, 0.7, 1.5, 4.0])
def test_air_stays_air_under_any_power(power):
    changed = change(np.array([0.0, 1.0], np.float32), gamma=power)
    assert 0 <= changed[0] < 1e-10
    assert changed[1] == 1


def test_where_nothing_is_drawn_nothing_changes():
    scaled = patch()
    np.testing.assert_array_equal(change(scaled), scaled)
    assert draw_strengths(AugmentSection(preset="none"), np.random.default_rng(0)) == NOTHING


def test_blur_is_scipys_gaussian_filter():
    scaled = patch()
    blurred = change(scaled, blur_vox=(0.5, 0.8, 1.0))
    np.testing.assert_allclose(blurred, gaussian_filter(scaled, (0.5, 0.8, 1.0), mode="mirror"), atol=1e-5)


def test_blur_and_low_resolution_leave_coarse_axes_sharp():
    scaled = patch()
    changed = change(scaled, fine=(True, True, False), blur_vox=(0.7, 0.7, 0.7), low_resolution=0.5)
    alone = [
        change(scaled[:, :, [z]], fine=(True, True, False), blur_vox=(0.7, 0.7, 0.7), low_resolution=0.5)
        for z in range(scaled.shape[2])
    ]
    np.testing.assert_allclose(changed, np.concatenate(alone, axis=2), atol=1e-6)


def test_half_the_resolution_averages_pairs_and_interpolates_between_them():
    matrix = low_resolution_matrix(4, 0.5)
    # pairs (a + b) / 2 and (c + d) / 2 lie at 0.5 and 2.5; voxels 1 and 2 at a quarter and three quarters between them
    expected = [[1 / 2, 1 / 2, 0, 0], [3 / 8, 3 / 8, 1 / 8, 1 / 8], [1 / 8, 1 / 8, 3 / 8, 3 / 8], [0, 0, 1 / 2, 1 / 2]]
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    np.testing.assert_allclose(low_resolution_matrix(5, 1.0), np.eye(5), atol=1e-6)
    assert low_resolution_matrix(1, 0.5).tolist() == [[1.0]]


@settings(max_examples=30, deadline=None)
@given(st.floats(0.3, 1.0), st.integers(1, 20))
def test_low_resolution_keeps_what_is_constant(share, size):
    np.testing.assert_allclose(low_resolution_matrix(size, share).sum(axis=1), 1, atol=1e-5)


def test_noise_is_gaussian_with_the_deviation_asked_for():
    noise = gaussian_noise((50, 50, 40), 0.08, np.random.default_rng(3)).ravel()
    assert abs(noise.mean()) < 4 * 0.08 / np.sqrt(noise.size)
    assert abs(noise.std() - 0.08) < 4 * 0.08 / np.sqrt(2 * noise.size)
    assert kstest(noise / 0.08, "norm").pvalue > 0.001
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 4 / np.sqrt(noise.size)


def test_the_deviates_that_noise_is_made_of_have_no_mean_and_a_variance_of_one():
    assert NORMAL.size == 2**16
    assert abs(NORMAL.mean(dtype=np.float64)) < 1e-7
    assert NORMAL.var(dtype=np.float64) == pytest.approx(1, abs=1e-4)
    np.testing.assert_array_equal(NORMAL, -NORMAL[::-1])


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (5, 5, 5)])
def test_noise_has_the_shape_asked_for(shape):
    assert gaussian_noise(shape, 1.0, np.random.default_rng(0)).shape == shape


@pytest.mark.parametrize("name", NAMES)
def test_a_change_that_is_turned_on_alone_has_the_strength_it_has_among_all(name):
    alone = AugmentSection(preset="none", **{f"{KEYS[name]}_probability": 1.0})
    for seed in range(5):
        every = draw_strengths(ALWAYS, np.random.default_rng(seed))
        only = draw_strengths(alone, np.random.default_rng(seed))
        assert only == Strengths(**dict.fromkeys(NAMES) | {name: getattr(every, name)})


def test_strengths_lie_within_their_bounds_and_fill_them():
    drawn = [draw_strengths(ALWAYS, np.random.default_rng(seed)) for seed in range(400)]
    bounds = {
        "noise_std": (0, 0.03), "low_resolution": (0.5, 1), "brightness": (0.75, 1.25), "contrast": (0.75, 1.25),
        "gamma": (0.7, 1.5), "gamma_inverted": (0.7, 1.5),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        values = np.array([getattr(strengths, name) for strengths in drawn])
        assert low <= values.min() < low + 0.05 * (high - low), name
        assert high >= values.max() > high - 0.05 * (high - low), name
    blurs = np.array([strengths.blur_vox for strengths in drawn])
    assert 0.5 <= blurs.min() < 0.52
    assert 0.98 < blurs.max() <= 1.0


def test_changes_happen_as_often_as_their_probabilities_say():
    augment = AugmentSection()
    drawn = [draw_strengths(augment, np.random.default_rng(seed)) for seed in range(2000)]
    for name in NAMES:
        probability = getattr(augment, f"{KEYS[name]}_probability")
        share = np.mean([getattr(strengths, name) is not None for strengths in drawn])
        assert abs(share - probability) < 4 * np.sqrt(probability * (1 - probability) / 2000), name


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_changed_intensities_stay_in_the_window(seed):
    random = np.random.default_rng(seed)
    changed = change_intensities(patch(seed, (5, 5, 5)), draw_strengths(ALWAYS, random), EVERY, random)
    assert changed.min() >= 0
    assert changed.max() <= 1
