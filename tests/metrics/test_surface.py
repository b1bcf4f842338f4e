import warnings

import numpy as np
import pytest
import surface_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pipeline.metrics.surface import hausdorff_mm, surface_dice, surface_distances

SPACINGS = st.tuples(*[st.sampled_from([0.5, 0.977, 1.0, 2.5, 5.0])] * 3)


def blobs(seed: int, shape: tuple[int, int, int] = (14, 12, 10)) -> tuple[np.ndarray, np.ndarray]:
    """Return two masks that overlap, have several parts and holes, and touch the border."""
    random = np.random.default_rng(seed)
    common, first, second = gaussian_filter(random.normal(size=(3, *shape)), (0, 1.2, 1.2, 1.2))
    return common + 0.5 * first > 0.05, common + 0.5 * second > 0.05


def oracle(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, ...], tolerance_mm: float
) -> list[float]:
    """Return HD95, the largest distance and the surface Dice by surface-distance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it asks SciPy for ndimage.filters
        distances = surface_distance.compute_surface_distances(truth, prediction, spacing_mm)
    return [
        surface_distance.compute_robust_hausdorff(distances, 95),
        surface_distance.compute_robust_hausdorff(distances, 100),
        surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm),
    ]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spacing_mm=SPACINGS, tolerance_mm=st.sampled_from([0.6, 2.0, 5.0]))
def test_equal_to_surface_distance(seed: int, spacing_mm: tuple[float, float, float], tolerance_mm: float) -> None:
    truth, prediction = blobs(seed)
    distances = surface_distances(truth, prediction, spacing_mm)
    ours = [hausdorff_mm(distances), hausdorff_mm(distances, 100), surface_dice(distances, tolerance_mm)]
    np.testing.assert_allclose(ours, oracle(truth, prediction, spacing_mm, tolerance_mm), atol=1e-6)


def test_equal_to_surface_distance_where_one_mask_fills_the_volume_and_the_other_is_one_voxel() -> None:
    truth = np.ones((6, 5, 4), bool)
    prediction = np.zeros_like(truth)
    prediction[5, 4, 3] = True
    distances = surface_distances(truth, prediction, (1.0, 2.0, 3.0))
    ours = [hausdorff_mm(distances), hausdorff_mm(distances, 100), surface_dice(distances, 2.0)]
    np.testing.assert_allclose(ours, oracle(truth, prediction, (1.0, 2.0, 3.0), 2.0), atol=1e-6)


def test_two_voxels_apart_are_as_far_as_they_lie() -> None:
    truth = np.zeros((9, 3, 3), bool)
    prediction = truth.copy()
    truth[1, 1, 1] = prediction[7, 1, 1] = True
    distances = surface_distances(truth, prediction, (2.0, 1.0, 1.0))
    # Each voxel has four elements on either side: the near ones are 5 voxels of 2 mm away, the far ones 6.
    assert sorted(distances.truth_mm.tolist()) == [10.0] * 4 + [12.0] * 4
    assert hausdorff_mm(distances) == 12.0
    assert hausdorff_mm(distances, 50) == 10.0
    assert surface_dice(distances, 9.9) == 0.0
    assert surface_dice(distances, 10.0) == pytest.approx(0.5)


def test_equal_masks_have_no_distance() -> None:
    mask = blobs(0)[0]
    distances = surface_distances(mask, mask, (1.0, 1.0, 3.0))
    assert hausdorff_mm(distances, 100) == 0.0
    assert surface_dice(distances, 1e-9) == 1.0


def test_a_distance_of_the_tolerance_is_forgiven_in_spite_of_rounding() -> None:
    truth = np.zeros((8, 3, 3), bool)
    prediction = truth.copy()
    truth[1:4] = prediction[2:5] = True  # all faces across x lie one voxel apart
    distances = surface_distances(truth, prediction, (2.0000001, 1.0, 1.0))
    assert surface_dice(distances, 2.0) == 1.0


def test_an_empty_mask_has_no_surface() -> None:
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(ValueError, match="empty"):
        surface_distances(mask, ~mask, (1.0, 1.0, 1.0))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.25, 2.0, 8.0]))
def test_distances_scale_with_the_spacing_and_do_not_depend_on_the_side(seed: int, scale: float) -> None:
    truth, prediction = blobs(seed)
    distances = surface_distances(truth, prediction, (1.0, 1.5, 3.0))
    swapped = surface_distances(prediction, truth, (1.0, 1.5, 3.0))
    scaled = surface_distances(truth, prediction, (scale, 1.5 * scale, 3.0 * scale))
    assert hausdorff_mm(swapped) == hausdorff_mm(distances)
    assert surface_dice(swapped, 2.0) == pytest.approx(surface_dice(distances, 2.0))
    assert hausdorff_mm(scaled) == pytest.approx(scale * hausdorff_mm(distances))
    assert surface_dice(scaled, 2.0 * scale) == pytest.approx(surface_dice(distances, 2.0))


@pytest.mark.parametrize("seed", range(5))
def test_a_crop_around_both_masks_gives_the_same_as_the_volume(seed: int) -> None:
    truth, prediction = blobs(seed)
    inside = tuple(slice(3, 3 + n) for n in truth.shape)
    large_truth, large_prediction = (np.zeros([n + 7 for n in truth.shape], bool) for _ in range(2))
    large_truth[inside], large_prediction[inside] = truth, prediction
    cropped = surface_distances(truth, prediction, (1.0, 1.5, 3.0))
    whole = surface_distances(large_truth, large_prediction, (1.0, 1.5, 3.0))
    assert hausdorff_mm(cropped) == hausdorff_mm(whole)
    assert surface_dice(cropped, 2.0) == pytest.approx(surface_dice(whole, 2.0))
