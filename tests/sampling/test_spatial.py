import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from pipeline.config.augment import AugmentSection
from pipeline.sampling.draw import Draw
from pipeline.sampling.spatial import crop, draw_matrix, rotation, warp

PATCH = (7, 6, 5)
SHAPE = (12, 10, 8)
STRONG = AugmentSection(rotation_deg=180, rotation_probability=1, scale=(0.5, 2), scale_probability=1)
voxels = st.tuples(*(st.integers(0, size - 1) for size in SHAPE))
places = st.tuples(*(st.integers(0, size - 1) for size in PATCH))
mirrors = st.tuples(st.booleans(), st.booleans(), st.booleans())
few = settings(max_examples=40, deadline=None)


def draw_at(voxel, place, mirror=(False, False, False), step=0):
    return Draw("case", 1, voxel, place, mirror, (0, step, 0))


@pytest.fixture(scope="module")
def case(make_case):
    random = np.random.default_rng(1)
    return make_case(random.integers(0, 4, SHAPE), spacing_mm=(1.0, 2.0, 5.0))


@few
@given(voxels, places, mirrors)
def test_a_crop_equals_the_warp_by_its_mirror(case, voxel, place, mirror):
    drawn = draw_at(voxel, place, mirror)
    image, labels = crop(case, drawn, PATCH)
    warped_image, warped_labels = warp(case, drawn, np.diag(np.where(mirror, -1.0, 1.0)), PATCH)
    np.testing.assert_array_equal(labels, warped_labels)
    np.testing.assert_allclose(image, warped_image, atol=0.01)
    assert image[place] == case.image[voxel]


@few
@given(voxels, places, mirrors, st.integers(0, 1000))
def test_a_warp_is_linear_interpolation_with_air_outside(case, voxel, place, mirror, step):
    drawn = draw_at(voxel, place, mirror, step)
    matrix = draw_matrix(drawn, STRONG, case.grid.spacing_mm)
    bend = np.random.default_rng(step).normal(0, 1, (3, *PATCH)).astype(np.float32)
    image, labels = warp(case, drawn, matrix, PATCH, bend)
    offsets = np.stack(np.meshgrid(*map(np.arange, PATCH), indexing="ij")) - np.reshape(place, (3, 1, 1, 1))
    here = bend[(slice(None), *place)].reshape(3, 1, 1, 1)
    positions = np.tensordot(matrix, offsets, 1) + bend - here + np.reshape(voxel, (3, 1, 1, 1))
    expected = map_coordinates(case.image.astype(float), positions, order=1, mode="grid-constant", cval=-1024)
    np.testing.assert_allclose(image, expected, atol=0.1)
    index = np.rint(positions).astype(int)
    inside = np.all((index >= 0) & (index < np.reshape(SHAPE, (3, 1, 1, 1))), axis=0)
    clear = np.all(np.abs(positions - np.floor(positions) - 0.5) > 1e-4, axis=0)  # no tie between two voxels
    found = np.where(inside, case.encoded[tuple(np.clip(index, 0, np.reshape(SHAPE, (3, 1, 1, 1)) - 1))], 0)
    np.testing.assert_array_equal(labels[clear], found[clear])


@few
@given(voxels, places, mirrors, st.integers(0, 1000))
def test_one_voxel_lands_on_its_place_under_any_warp(make_point_case, voxel, place, mirror, step):
    case = make_point_case({1: voxel}, shape=SHAPE, spacing_mm=(0.7, 1.1, 6.0))
    drawn = draw_at(voxel, place, mirror, step)
    bend = np.random.default_rng(step).normal(0, 5, (3, *PATCH)).astype(np.float32)
    matrix = draw_matrix(drawn, STRONG, case.grid.spacing_mm)
    image, labels = warp(case, drawn, matrix, PATCH, bend)
    assert labels[place] == 1
    assert image[place] == pytest.approx(case.image[voxel], abs=0.01)


@few
@given(st.integers(0, 10**6), mirrors)
def test_the_matrix_is_a_rotation_in_mm_over_a_magnification_in_bounds(step, mirror):
    spacing = np.array([0.8, 1.0, 5.0])
    matrix = draw_matrix(draw_at((0, 0, 0), (0, 0, 0), mirror, step), STRONG, tuple(spacing))
    in_mm = matrix * spacing[:, None] / spacing
    size = np.cbrt(abs(np.linalg.det(in_mm)))
    assert 0.5 <= size <= 2
    np.testing.assert_allclose(in_mm @ in_mm.T / size**2, np.eye(3), atol=1e-12)
    assert np.sign(np.linalg.det(in_mm)) == (-1) ** sum(mirror)


def test_without_rotation_and_scale_there_is_no_matrix():
    drawn = draw_at((0, 0, 0), (0, 0, 0), (True, False, False))
    assert draw_matrix(drawn, AugmentSection(preset="none"), (1.0, 1.0, 1.0)) is None


def test_a_quarter_turn_about_z_carries_x_to_y():
    np.testing.assert_allclose(rotation(np.radians([0, 0, 90])) @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    turned = rotation(np.radians([90, 0, 90])) @ [0, 1, 0]  # about x first: y to z, which the turn about z leaves
    np.testing.assert_allclose(turned, [0, 0, 1], atol=1e-15)


def test_magnified_twice_a_slab_of_three_voxels_is_six_wide(make_case):
    encoded = np.zeros((20, 3, 3), np.uint8)
    encoded[8:11] = 1
    drawn = draw_at((9, 1, 1), (10, 0, 0))
    augment = AugmentSection(rotation_probability=0, scale=(2, 2), scale_probability=1)
    case = make_case(encoded)
    labels = warp(case, drawn, draw_matrix(drawn, augment, case.grid.spacing_mm), (20, 1, 1))[1]
    # x(p) = (p - 10) / 2 + 9: p = 8..12 lie in 8..10, 7 and 13 are ties at 7.5 and 10.5, to the even voxels 8 and 10
    assert np.flatnonzero(labels).tolist() == list(range(7, 14))


def test_a_patch_far_larger_than_the_case_reads_the_case_and_one_layer_of_air(make_point_case):
    case = make_point_case({1: (0, 0, 0)}, shape=(3, 3, 3))
    image, labels = warp(case, draw_at((0, 0, 0), (20, 20, 20)), np.eye(3) * 1.5, (40, 40, 40))
    assert labels.sum() == 1
    assert (image == -1024).sum() == 40**3 - 2**3  # positions 0 and 1.5 along each axis are inside
