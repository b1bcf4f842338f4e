import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from pipeline.config.augment import LARGEST_ELASTIC_SHARE, AugmentSection
from pipeline.sampling.elastic import Displacement, control_basis, draw_displacement

PATCH = (30, 20, 10)
SPACING_MM = (1.0, 1.5, 2.0)
EVERY = (True, True, True)
BENT = AugmentSection(preset="none", elastic_probability=1, elastic_mm=4.0, elastic_spacing_mm=10.0)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed, augment=BENT, bent=EVERY):
    return draw_displacement(augment, SPACING_MM, PATCH, bent, np.random.default_rng(seed))


def test_the_weights_are_those_of_scipys_uniform_cubic_b_spline():
    basis = control_basis(30, 1.5, 10.0)
    knots = np.arange(-3, basis.shape[1] + 1) * 10.0
    positions = np.arange(30) * 1.5
    expected = BSpline.design_matrix(positions, knots, 3).toarray()
    np.testing.assert_allclose(basis, expected, atol=1e-6)


def test_control_points_that_all_move_alike_move_the_patch_as_a_whole():
    basis = control_basis(PATCH[0], 1.0, 8.0)
    planes = np.full((3, basis.shape[1], 4, 5), 2.5, np.float32)
    np.testing.assert_allclose(Displacement(basis, planes).slab(0, PATCH[0]), 2.5, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_displacement_stays_within_its_bounds_and_its_strength(seed):
    displacement = drawn(seed)
    field = displacement.slab(0, PATCH[0])
    low, high = displacement.bounds()
    spacing = np.reshape(SPACING_MM, (3, 1, 1, 1))
    assert (field >= low[:, None, None, None] - 1e-5).all()
    assert (field <= high[:, None, None, None] + 1e-5).all()
    assert np.abs(field * spacing).max() <= BENT.elastic_mm
    np.testing.assert_allclose(displacement.at((7, 3, 2)), field[:, 7, 3, 2], atol=1e-6)
    np.testing.assert_allclose(displacement.slab(5, 9), field[:, 5:9], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_strongest_deformation_that_is_allowed_never_folds(seed):
    random = np.random.default_rng(seed)
    control_mm, size = 10.0, 25
    basis = control_basis(size, 1.0, control_mm)
    largest = LARGEST_ELASTIC_SHARE * control_mm
    moves = random.choice([-largest, largest], (3, basis.shape[1], basis.shape[1], basis.shape[1]))
    field = np.einsum("xi,yj,zk,aijk->axyz", basis, basis, basis, moves, optimize=True)
    slopes = np.stack([np.stack(np.gradient(field[axis])) for axis in range(3)])
    jacobian = np.moveaxis(slopes, (0, 1), (-2, -1)) + np.eye(3)
    assert (np.linalg.det(jacobian) > 0).all()


def test_an_axis_that_is_not_bent_has_no_displacement():
    field = drawn(0, bent=(True, False, True)).slab(0, PATCH[0])
    assert [bool((part == 0).all()) for part in field] == [False, True, False]


@pytest.mark.parametrize("changes", [{"elastic_probability": 0.0}, {"elastic_mm": 0.0}])
def test_without_probability_or_strength_there_is_none(changes):
    assert drawn(0, BENT.model_copy(update=changes)) is None
