"""CT and labels on another grid: against SciPy, by hand, and by what must always hold."""

from pathlib import Path

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from pipeline.errors import UserError
from pipeline.formats.dispatch import read_image, read_label
from pipeline.volume.grid import Grid
from pipeline.volume.resample import resample_image, resample_labels, to_training_grid
from pipeline.volume.shares import interpolated_labels
from pipeline.volume.volume import Volume

ROUNDED = 0.5 + 0.01  # how far whole HU may lie from what was rounded
GRID = Grid((20, 24, 15), np.diag([1.0, 1.5, 3.0, 1]))


def points_in(source: Grid, target: Grid) -> np.ndarray:
    """Where the voxels of `target` lie, (3, X, Y, Z) in voxels of `source`, by the affines alone."""
    places_mm = target.to_mm(np.moveaxis(np.indices(target.shape_vox), 0, -1))
    homogeneous = np.concatenate([places_mm, np.ones((*places_mm.shape[:3], 1))], axis=-1)
    return np.moveaxis((homogeneous @ np.linalg.inv(source.affine_mm).T)[..., :3], -1, 0)


def bounded(points: np.ndarray, grid: Grid) -> np.ndarray:
    """The points, those outside moved to the centres of the end voxels."""
    return np.clip(points, 0, (np.array(grid.shape_vox) - 1)[:, None, None, None])


# images


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.7, 2.1, 4), (1.4, 1.5, 2)])
def test_an_image_is_scipys_cubic_spline(spacing_mm: tuple[float, float, float]) -> None:
    target = GRID.at_spacing(spacing_mm)
    voxels = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=GRID.shape_vox), 1) * 1000
    points = bounded(points_in(GRID, target), GRID)
    expected = ndimage.map_coordinates(voxels, points, order=3, mode="mirror").clip(voxels.min(), voxels.max())
    resampled = resample_image(voxels, GRID, target, outside=-1024)
    assert resampled.dtype == np.int16
    np.testing.assert_allclose(resampled, expected, atol=ROUNDED)


def test_an_axis_shrunk_by_more_than_one_and_a_half_is_smoothed_first() -> None:
    target = GRID.at_spacing((4, 1.5, 4.5))  # 4 times, not at all, and exactly 1.5 times
    voxels = np.random.default_rng(0).integers(-1000, 1000, GRID.shape_vox).astype(np.int16)
    smooth = ndimage.gaussian_filter1d(voxels.astype(float), 1.5, axis=0, mode="mirror")
    points = bounded(points_in(GRID, target), GRID)
    expected = ndimage.map_coordinates(smooth, points, order=3, mode="mirror").clip(-1000, 1000)
    np.testing.assert_allclose(resample_image(voxels, GRID, target, outside=-1024), expected, atol=ROUNDED)


def test_the_same_grid_gives_the_same_image() -> None:
    voxels = np.random.default_rng(0).integers(-1000, 3000, GRID.shape_vox).astype(np.int16)
    np.testing.assert_array_equal(resample_image(voxels, GRID, GRID, outside=-1024), voxels)


def test_the_spline_makes_no_new_extremes() -> None:
    voxels = np.zeros((12, 12, 12), np.int16)
    voxels[6:] = 1000
    grid = Grid(voxels.shape, np.eye(4))
    resampled = resample_image(voxels, grid, grid.at_spacing((0.4, 0.4, 0.4)), outside=-1024)
    assert (resampled.min(), resampled.max()) == (0, 1000)


def test_half_a_voxel_outside_the_ends_go_on_and_further_out_is_outside() -> None:
    voxels = np.full((4, 4, 4), 7, np.int16)
    target = Grid((8, 1, 1), np.array([[0.5, 0, 0, -0.75], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]))
    resampled = resample_image(voxels, Grid((4, 4, 4), np.eye(4)), target, outside=-1024)
    assert resampled.ravel().tolist() == [-1024, 7, 7, 7, 7, 7, 7, 7]  # from -0.75, -0.25, ...


def test_a_grid_with_other_axes_is_refused() -> None:
    turned = Grid((4, 4, 4), np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    with pytest.raises(UserError, match="different axes"):
        resample_image(np.zeros((4, 4, 4)), Grid((4, 4, 4), np.eye(4)), turned, outside=0)


def test_a_ct_is_cropped_to_its_body_and_lies_at_its_place_on_the_training_grid() -> None:
    hu = np.full((40, 40, 40), -1000, np.int16)
    hu[10:30, 12:32, 8:28] = 40
    volume = Volume(hu, Grid(hu.shape, np.diag([1, 1, 2, 1])))
    made, start, shape = to_training_grid(volume, (2, 2, 2))
    assert (start, shape) == ((6, 8, 4), (28, 28, 28))  # with 4 voxels of margin
    assert made.voxels.dtype == np.int16 and made.voxels.shape == made.grid.shape_vox == (14, 14, 28)
    assert made.grid.spacing_mm == (2, 2, 2) and made.header is None
    body = np.argwhere(made.voxels > -480)
    low, high = made.grid.to_mm(body.min(axis=0)), made.grid.to_mm(body.max(axis=0))
    np.testing.assert_allclose(low, volume.grid.to_mm(np.array([9.5, 11.5, 7.5])), atol=1.01)
    np.testing.assert_allclose(high, volume.grid.to_mm(np.array([29.5, 31.5, 27.5])), atol=1.01)


def test_hu_beyond_int16_are_clipped_on_the_training_grid() -> None:
    volume = Volume(np.full((5, 5, 5), 50_000, np.float32), Grid((5, 5, 5), np.eye(4)))
    assert np.unique(to_training_grid(volume, (2, 2, 2))[0].voxels).tolist() == [32767]


# labels

SMALL = arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 7)] * 3), elements=st.sampled_from([0, 1, 2, 254, 255]))
SPACING = st.tuples(*[st.floats(0.4, 3.5)] * 3)


@given(SMALL)
def test_the_same_grid_gives_the_same_labels(encoded: np.ndarray) -> None:
    grid = Grid(encoded.shape, np.diag([0.7, 1.3, 2.9, 1]))
    labels, counts = resample_labels(encoded, grid, grid)
    np.testing.assert_array_equal(labels, encoded)
    assert counts == {}


def assert_largest_linear_share(encoded: np.ndarray, source: Grid, target: Grid) -> None:
    """Every label is that of SciPy's linear interpolation of each class, but where two are equal up to rounding."""
    points = bounded(points_in(source, target), source)
    values = np.unique(encoded)
    shares = np.stack([ndimage.map_coordinates((encoded == v).astype(float), points, order=1) for v in values])
    ordered = np.sort(shares, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-8 if len(values) > 1 else np.ones(target.shape_vox, bool)
    expected = values[np.argmax(shares, axis=0)]
    np.testing.assert_array_equal(interpolated_labels(encoded, source, target)[clear], expected[clear])


@given(SMALL, SPACING)
def test_labels_are_the_largest_linear_share(encoded: np.ndarray, spacing_mm: tuple[float, float, float]) -> None:
    grid = Grid(encoded.shape, np.eye(4))
    assert_largest_linear_share(encoded, grid, grid.at_spacing(spacing_mm))


def test_real_labels_are_the_largest_linear_share(real_image: Path, real_label: Path) -> None:
    label = read_label(real_label)
    target = to_training_grid(read_image(real_image), (4, 4, 4))[0].grid
    assert_largest_linear_share(label.voxels.astype(np.uint8), label.grid, target)


def test_ties_go_to_the_lower_class() -> None:
    encoded = np.uint8([3, 2, 0, 255]).reshape(4, 1, 1)
    target = Grid((3, 1, 1), np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert interpolated_labels(encoded, Grid((4, 1, 1), np.eye(4)), target).ravel().tolist() == [2, 0, 0]


def test_outside_the_source_is_background() -> None:
    encoded = np.full((3, 3, 3), 5, np.uint8)
    grid = Grid((3, 3, 3), np.eye(4))
    labels, _ = resample_labels(encoded, grid, grid.crop((-2, 0, 1), (6, 3, 4)))
    assert np.array_equal(np.argwhere(labels == 5).min(axis=0), [2, 0, 0])
    assert np.count_nonzero(labels) == 3 * 3 * 2


def test_a_small_object_that_would_vanish_is_put_back_with_its_volume_at_its_place() -> None:
    encoded = np.zeros((24, 24, 24), np.uint8)
    encoded[3:7, 10:12, 10:12] = 4  # 16 voxels: two of 2 x 2 x 2, laid across the edges of the coarse voxels
    grid = Grid(encoded.shape, np.eye(4))
    coarse = Grid((12, 12, 12), np.array([[2, 0, 0, 1.5], [0, 2, 0, 1.5], [0, 0, 2, 1.5], [0, 0, 0, 1]]))
    assert not interpolated_labels(encoded, grid, coarse).any()
    labels, counts = resample_labels(encoded, grid, coarse)
    assert counts == {4: 1}
    assert np.count_nonzero(labels == 4) == 2
    places = coarse.to_mm(np.argwhere(labels == 4))
    assert (places >= [2, 9, 9]).all() and (places <= [7, 12, 12]).all()


def test_an_object_under_one_target_voxel_and_an_ignored_one_may_vanish() -> None:
    encoded = np.zeros((24, 24, 24), np.uint8)
    encoded[4:6, 4:6, 4] = encoded[20:22, 20:22, 20] = 1  # 4 of 8 voxels
    encoded[12:14, 12:14, 12:14] = 255  # across the edges of the coarse voxels
    grid = Grid(encoded.shape, np.eye(4))
    coarse = Grid((12, 12, 12), np.array([[2, 0, 0, 1.5], [0, 2, 0, 1.5], [0, 0, 2, 1.5], [0, 0, 0, 1]]))
    labels, counts = resample_labels(encoded, grid, coarse)
    assert counts == {} and not labels.any()


def test_two_objects_that_fill_the_same_voxels_are_both_put_back() -> None:
    encoded = np.zeros((8, 8, 8), np.uint8)
    encoded[2:6, 2:6, 0] = 2
    encoded[2:6, 2:6, 2] = 1  # 16 voxels each, a quarter of the same four target voxels, which look at z = 1
    grid = Grid(encoded.shape, np.eye(4))
    coarse = Grid((4, 4, 2), np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 4, 1], [0, 0, 0, 1]]))
    labels, counts = resample_labels(encoded, grid, coarse)
    assert counts == {1: 1, 2: 1}
    assert np.bincount(labels.ravel()).tolist() == [30, 1, 1]


def test_an_object_that_kept_its_only_voxel_does_not_lose_it_to_one_that_is_put_back() -> None:
    encoded = np.zeros((8, 8, 8), np.uint8)
    encoded[2:6, 2:6, 0] = 2  # vanishes: the target voxels look at z = 1
    encoded[2:4, 2:4, 1] = 1  # a quarter of the first of them, and has it
    grid = Grid(encoded.shape, np.eye(4))
    coarse = Grid((4, 4, 2), np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 4, 1], [0, 0, 0, 1]]))
    labels, counts = resample_labels(encoded, grid, coarse)
    assert counts == {2: 1} and labels[1, 1, 0] == 1
    assert np.bincount(labels.ravel()).tolist() == [30, 1, 1]


@settings(max_examples=60)
@given(st.integers(0, 10_000), SPACING)
def test_no_object_of_a_target_voxels_volume_is_lost(seed: int, spacing_mm: tuple[float, float, float]) -> None:
    generator = np.random.default_rng(seed)
    encoded = np.zeros((22, 22, 22), np.uint8)
    for corner in np.ndindex(2, 2, 2):  # eight objects that are well apart
        low = np.array(corner) * 11 + generator.integers(2, 5, 3)
        size = generator.integers(1, 5, 3)
        encoded[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))] = generator.integers(1, 4)
    grid = Grid(encoded.shape, np.eye(4))
    target = grid.at_spacing(spacing_mm)
    labels, _ = resample_labels(encoded, grid, target)
    components = cc3d.connected_components(encoded, connectivity=26)
    for component in range(1, components.max() + 1):
        voxels = np.argwhere(components == component)
        if len(voxels) < np.prod(spacing_mm):
            continue
        label = encoded[tuple(voxels[0])]
        places = np.argwhere(labels == label) @ np.diag(spacing_mm) + target.affine_mm[:3, 3]
        reach = np.array(spacing_mm) / 2 + 0.5 + 1e-6
        near = ((places >= voxels.min(axis=0) - reach) & (places <= voxels.max(axis=0) + reach)).all(axis=1)
        assert near.any(), (component, len(voxels))
