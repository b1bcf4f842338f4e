import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.augment import AugmentSection
from pipeline.sampling.deformation import draw_deformation, fine_axes, log_uniform, rotation
from pipeline.sampling.draw import Draw
from pipeline.volume.grid import Grid

PATCH = (8, 8, 8)
ALL = AugmentSection(
    rotation_deg=180, rotation_probability=1, scale=(0.5, 2), scale_probability=1, elastic_probability=1
)
STRONG = ALL.model_copy(update={"elastic_probability": 0.0})
mirrors = st.tuples(st.booleans(), st.booleans(), st.booleans())
steps = st.integers(0, 10**6)
few = settings(max_examples=60, deadline=None)


def deform(augment, step, mirror=(False, False, False), spacing_mm=(1.0, 1.0, 1.0)):
    return draw_deformation(Draw("case", 1, (0, 0, 0), (0, 0, 0), mirror, (0, step, 0)), augment, spacing_mm, PATCH)


@few
@given(steps, mirrors, st.tuples(*[st.floats(0.5, 1.5)] * 3))
def test_the_matrix_is_a_rotation_in_mm_over_a_magnification_in_bounds(step, mirror, spacing_mm):
    spacing = np.array(spacing_mm)
    in_mm = deform(STRONG, step, mirror, spacing_mm).matrix * spacing[:, None] / spacing
    size = np.cbrt(abs(np.linalg.det(in_mm)))
    assert 0.5 <= size <= 2
    np.testing.assert_allclose(in_mm @ in_mm.T / size**2, np.eye(3), atol=1e-12)
    assert np.sign(np.linalg.det(in_mm)) == (-1) ** sum(mirror)


@few
@given(steps, mirrors)
def test_thick_slices_stay_slices_and_are_rotated_in_their_plane(step, mirror):
    spacing = np.array([0.8, 1.0, 5.0])
    deformation = deform(ALL, step, mirror, tuple(spacing))
    in_mm = deformation.matrix * spacing[:, None] / spacing
    np.testing.assert_array_equal(in_mm[2], [0, 0, -1 if mirror[2] else 1])
    np.testing.assert_array_equal(in_mm[:2, 2], 0)
    plane = in_mm[:2, :2]
    np.testing.assert_allclose(plane @ plane.T, np.eye(2) * abs(np.linalg.det(plane)), atol=1e-12)
    assert (deformation.displacement.slab(0, 8)[2] == 0).all()
    assert (deformation.displacement.slab(0, 8)[:2] != 0).any()


def test_only_axes_up_to_the_anisotropy_times_the_finest_are_fine():
    assert fine_axes((1.0, 2.0, 3.0), 3.0) == (True, True, True)
    assert fine_axes((1.0, 1.0, 3.1), 3.0) == (True, True, False)
    assert fine_axes((5.0, 0.5, 5.0), 3.0) == (False, True, False)


def test_an_oblique_grid_has_the_fine_axes_of_a_straight_one():
    grid = Grid((100, 100, 30), np.diag([0.9, 0.9, 5.0, 1.0]))
    turn = np.eye(4)
    for degrees in range(1, 90):
        turn[:3, :3] = rotation(np.radians([degrees, degrees / 2, degrees / 3]))
        oblique = Grid(grid.shape_vox, turn @ grid.affine_mm).at_spacing((1.0, 1.0, 3.0))
        assert fine_axes(oblique.spacing_mm, 3.0) == (True, True, True)


def test_without_rotation_scale_and_displacement_there_is_no_deformation():
    assert deform(AugmentSection(preset="none"), 0, (True, False, False)) is None


def test_a_change_that_is_turned_on_leaves_the_others_as_they_are():
    rotated = AugmentSection(preset="none", rotation_probability=1)
    scaled = AugmentSection(preset="none", scale_probability=1)
    bent = AugmentSection(preset="none", elastic_probability=1)
    every = AugmentSection(preset="none", rotation_probability=1, scale_probability=1, elastic_probability=1)
    product = deform(rotated, 7).matrix @ deform(scaled, 7).matrix
    np.testing.assert_allclose(deform(every, 7).matrix, product, atol=1e-12)
    np.testing.assert_array_equal(deform(every, 7).displacement.slab(0, 8), deform(bent, 7).displacement.slab(0, 8))


def test_a_quarter_turn_about_z_carries_x_to_y():
    np.testing.assert_allclose(rotation(np.radians([0, 0, 90])) @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    turned = rotation(np.radians([90, 0, 90])) @ [0, 1, 0]  # about x first: y to z, which the turn about z leaves
    np.testing.assert_allclose(turned, [0, 0, 1], atol=1e-15)


def test_half_and_double_are_equally_likely():
    random = np.random.default_rng(0)
    factors = np.array([log_uniform((0.5, 2.0), random) for _ in range(4000)])
    assert factors.min() >= 0.5
    assert factors.max() <= 2
    assert abs(np.log(factors).mean()) < 4 * np.log(4) / np.sqrt(12 * 4000)  # four standard errors
