"""Weights and their sum."""

import pytest
import torch
from monai.data.utils import compute_importance_map

from pipeline.inference.blend import Blend, gaussian_weights


@pytest.mark.parametrize("window", [(8, 8, 8), (5, 16, 33), (1, 4, 4)])
def test_weights_are_those_of_monai(window: tuple[int, int, int]) -> None:
    expected = compute_importance_map(window, mode="gaussian", sigma_scale=0.125)
    torch.testing.assert_close(gaussian_weights(window), expected, rtol=1e-5, atol=1e-7)


def test_windows_that_agree_blend_to_what_they_say() -> None:
    volume = torch.randn(2, 10, 4, 4)
    blend = Blend((10, 4, 4), (6, 4, 4))
    for start in (0, 2, 4):
        blend.add((start, 0, 0), volume[:, start : start + 6])
    torch.testing.assert_close(blend.mean(), volume)


def test_two_windows_are_weighted_by_the_distance_from_their_borders() -> None:
    blend = Blend((3, 1, 1), (2, 1, 1))
    blend.add((0, 0, 0), torch.full((1, 2, 1, 1), 1.0))
    blend.add((1, 0, 0), torch.full((1, 2, 1, 1), 4.0))
    # Both voxels of a window lie half a voxel from its centre: equal weights.
    torch.testing.assert_close(blend.mean().flatten(), torch.tensor([1.0, 2.5, 4.0]))
