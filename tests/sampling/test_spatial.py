import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from pipeline.config.augment import AugmentSection
from pipeline.sampling.deformation import Deformation, draw_deformation
from pipeline.sampling.draw import Draw
from pipeline.sampling.spatial import SLAB_VOXELS, crop, warp

PATCH = (7, 6, 5)
SHAPE = (12, 10, 8)
ONLY_SHAPE = {"preset": "none", "rotation_deg": 180, "scale": (0.5, 2), "anisotropy": 100.0}
STRONG = AugmentSection(**ONLY_SHAPE, rotation_probability=1, scale_probability=1)
SCALED = AugmentSection(**ONLY_SHAPE, scale_probability=1)
BENT = STRONG.model_copy(update={"elastic_probability": 1.0, "elastic_spacing_mm": 4.0, "elastic_mm": 4.0})
voxels = st.tuples(*(st.integers(0, size - 1) for size in SHAPE))
places = st.tuples(*(st.integers(0, size - 1) for size in PATCH))
mirrors = st.tuples(st.booleans(), st.booleans(), st.booleans())
changes = st.sampled_from((STRONG, SCALED, BENT))
few = settings(max_examples=60, deadline=None)


def draw_at(voxel, place, mirror=(False, False, False), step=0):
    return Draw("case", 1, voxel, place, mirror, (0, step, 0))


def positions_of(deformation, drawn, patch):
    """Return x(p) by the formula, in float64, for all p of a patch."""
    column = (3, 1, 1, 1)
    offsets = np.stack(np.meshgrid(*map(np.arange, patch), indexing="ij")) - np.reshape(drawn.place_vox, column)
    positions = np.tensordot(deformation.matrix, offsets, 1) + np.reshape(drawn.voxel, column)
    if deformation.displacement is not None:
        bend = deformation.displacement.slab(0, patch[0]).astype(float)
        positions += bend - bend[(slice(None), *drawn.place_vox)].reshape(column)
    return positions


@pytest.fixture(scope="module")
def case(make_case):
    random = np.random.default_rng(1)
    return make_case(random.integers(0, 4, SHAPE), spacing_mm=(1.0, 2.0, 5.0))


@few
@given(voxels, places, mirrors)
def test_a_crop_equals_the_warp_by_its_mirror(case, voxel, place, mirror):
    drawn = draw_at(voxel, place, mirror)
    image, labels = crop(case, drawn, PATCH)
    deformation = Deformation(np.diag(np.where(mirror, -1.0, 1.0)), None)
    warped_image, warped_labels = warp(case, drawn, deformation, PATCH)
    np.testing.assert_array_equal(labels, warped_labels)
    np.testing.assert_array_equal(image, warped_image)
    assert image[place] == case.image[voxel]


@few
@given(voxels, places, mirrors, st.integers(0, 1000), changes)
def test_a_warp_is_linear_interpolation_with_air_outside(case, voxel, place, mirror, step, augment):
    drawn = draw_at(voxel, place, mirror, step)
    deformation = draw_deformation(drawn, augment, case.grid.spacing_mm, PATCH)
    image, labels = warp(case, drawn, deformation, PATCH)
    positions = positions_of(deformation, drawn, PATCH)
    expected = map_coordinates(case.image.astype(float), positions, order=1, mode="grid-constant", cval=-1024)
    np.testing.assert_allclose(image, expected, atol=0.1)
    index = np.rint(positions).astype(int)
    inside = np.all((index >= 0) & (index < np.reshape(SHAPE, (3, 1, 1, 1))), axis=0)
    clear = np.all(np.abs(positions - np.floor(positions) - 0.5) > 1e-4, axis=0)  # no tie between two voxels
    found = np.where(inside, case.encoded[tuple(np.clip(index, 0, np.reshape(SHAPE, (3, 1, 1, 1)) - 1))], 0)
    np.testing.assert_array_equal(labels[clear], found[clear])


@few
@given(voxels, places, mirrors, st.integers(0, 1000), changes)
def test_one_voxel_lands_on_its_place_under_any_warp(make_point_case, voxel, place, mirror, step, augment):
    case = make_point_case({1: voxel}, shape=SHAPE, spacing_mm=(0.7, 1.1, 6.0))
    drawn = draw_at(voxel, place, mirror, step)
    deformation = draw_deformation(drawn, augment, case.grid.spacing_mm, PATCH)
    image, labels = warp(case, drawn, deformation, PATCH)
    assert labels[place] == 1
    assert image[place] == case.image[voxel]


@pytest.mark.parametrize("augment", [STRONG, SCALED, BENT], ids=["rotated", "scaled", "bent"])
def test_a_patch_of_several_slabs_is_the_same_as_by_the_formula(make_case, augment):
    patch = (50, 40, 90)
    assert np.prod(patch) > 2 * SLAB_VOXELS
    random = np.random.default_rng(2)
    case = make_case(random.integers(0, 4, (60, 70, 80)))
    drawn = draw_at((30, 35, 40), (49, 3, 60), step=5)
    deformation = draw_deformation(drawn, augment, case.grid.spacing_mm, patch)
    image, _ = warp(case, drawn, deformation, patch)
    positions = positions_of(deformation, drawn, patch)
    expected = map_coordinates(case.image.astype(float), positions, order=1, mode="grid-constant", cval=-1024)
    np.testing.assert_allclose(image, expected, atol=0.3)


@pytest.mark.parametrize("turned", [0, 1e-9])
def test_magnified_twice_a_slab_of_three_voxels_is_six_wide(make_case, turned):
    encoded = np.zeros((20, 3, 3), np.uint8)
    encoded[8:11] = 1
    matrix = np.eye(3) / 2
    matrix[1, 0] = turned  # the way of a patch that is rotated too
    labels = warp(make_case(encoded), draw_at((9, 1, 1), (10, 0, 0)), Deformation(matrix, None), (20, 1, 1))[1]
    # x(p) = (p - 10) / 2 + 9: p = 8..12 lie in 8..10; 7 and 13 are ties at 7.5 and 10.5, to the lower voxels 7 and 10
    assert np.flatnonzero(labels).tolist() == list(range(8, 14))


def test_a_patch_far_larger_than_the_case_reads_the_case_and_one_layer_of_air(make_point_case):
    case = make_point_case({1: (0, 0, 0)}, shape=(3, 3, 3))
    deformation = Deformation(np.eye(3) * 1.5, None)
    image, labels = warp(case, draw_at((0, 0, 0), (20, 20, 20)), deformation, (40, 40, 40))
    assert labels.sum() == 1
    assert (image == -1024).sum() == 40**3 - 2**3  # positions 0 and 1.5 along each axis are inside
