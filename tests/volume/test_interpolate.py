"""Interpolation matrices against SciPy, and their products against plain ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.volume.interpolate import along_axis, cubic_matrix, linear_matrix, overlap_matrix


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_cubic_matrix_is_scipys_mirrored_spline(count: int) -> None:
    generator = np.random.default_rng(count)
    values = generator.normal(size=count)
    positions = np.append(generator.uniform(0, count - 1, 50), [0, count - 1])
    expected = ndimage.map_coordinates(values, positions[None], order=3, mode="mirror") if count > 1 else values[0]
    np.testing.assert_allclose(cubic_matrix(positions, count) @ values, expected, atol=1e-5)


def test_cubic_matrix_at_the_voxels_is_the_identity_and_goes_on_beyond_the_ends() -> None:
    np.testing.assert_allclose(cubic_matrix(np.arange(9), 9), np.eye(9), atol=1e-6)
    np.testing.assert_array_equal(cubic_matrix(np.array([-0.5, 8.5]), 9), cubic_matrix(np.array([0, 8]), 9))


@pytest.mark.parametrize("sigma_vox", [0.4, 1.3, 3.0])
def test_smoothing_is_scipys_mirrored_gaussian(sigma_vox: float) -> None:
    values = np.random.default_rng(1).normal(size=40)
    expected = ndimage.gaussian_filter1d(values, sigma_vox, mode="mirror", radius=int(np.ceil(4 * sigma_vox)))
    np.testing.assert_allclose(cubic_matrix(np.arange(40), 40, sigma_vox) @ values, expected, atol=1e-5)


def test_linear_matrix_is_numpys_interpolation_clamped_at_the_ends() -> None:
    values = np.random.default_rng(2).normal(size=12)
    positions = np.linspace(-3, 15, 77)
    expected = np.interp(positions, np.arange(12), values)
    np.testing.assert_allclose(linear_matrix(positions, 12) @ values, expected, atol=1e-6)


def test_overlap_matrix_gives_the_share_of_each_wide_voxel() -> None:
    np.testing.assert_allclose(overlap_matrix(np.array([0.5, 2.0, 9.0]), 4, 2.0),
                               [[0.5, 0.5, 0, 0], [0, 0.25, 0.5, 0.25], [0, 0, 0, 0]])  # fmt: skip


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 3), st.integers(0, 9))
def test_a_product_along_an_axis_is_tensordot(rows: int, count: int, axis: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = linear_matrix(np.sort(generator.uniform(-1, count, rows)), count)
    matrix[: rows // 3] = 0  # rows of voxels outside the source
    shape = [3, 2, 4, 2]
    shape[axis] = count
    voxels = generator.integers(-1000, 1000, shape).astype(np.int16)
    expected = np.moveaxis(np.tensordot(matrix, voxels, (1, axis)), 0, axis)
    np.testing.assert_allclose(along_axis(matrix, voxels, axis), expected, atol=1e-3)
