"""Strides by anisotropy: cases worked out by hand from nnU-Net's rule, and what always holds."""

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning.stages import BOTTOM_VOX, MOST_STAGES, channels_of, in_short, multiple_of, strides_of

ISOTROPIC = (1.0, 1.0, 1.0)
sizes = st.tuples(st.integers(1, 320), st.integers(1, 320), st.integers(1, 320))
spacings = st.tuples(st.floats(0.3, 8), st.floats(0.3, 8), st.floats(0.3, 8))


def test_a_cube_is_halved_until_four_voxels_are_left() -> None:
    assert in_short(strides_of((64, 64, 64), ISOTROPIC)) == [1, 2, 2, 2, 2]
    assert in_short(strides_of((128, 128, 128), ISOTROPIC)) == [1, 2, 2, 2, 2, 2]
    assert len(strides_of((512, 512, 512), ISOTROPIC)) == MOST_STAGES


def test_thick_slices_wait_for_the_plane() -> None:
    # 1, 1, 5 mm: the plane is at 4 mm before 5 is within a factor of 2 of it, after two halvings (2, then 4 mm)
    assert in_short(strides_of((96, 96, 24), (1.0, 1.0, 5.0))) == [1, [2, 2, 1], [2, 2, 1], 2, 2]


def test_a_stack_of_one_slice_is_never_halved_along_it() -> None:
    assert in_short(strides_of((64, 64, 1), ISOTROPIC)) == [1, [2, 2, 1], [2, 2, 1], [2, 2, 1], [2, 2, 1]]


def test_an_axis_alone_is_halved_only_while_six_voxels_are_left() -> None:
    assert in_short(strides_of((11, 4, 4), ISOTROPIC)) == [1, 1]
    assert in_short(strides_of((12, 4, 4), ISOTROPIC)) == [1, [2, 1, 1]]


def test_a_tiny_patch_has_two_stages_that_shrink_nothing() -> None:
    assert strides_of((4, 4, 4), ISOTROPIC) == [(1, 1, 1), (1, 1, 1)]


@given(sizes, spacings)
def test_every_halved_axis_keeps_its_voxels(
    patch_vox: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> None:
    strides = strides_of(patch_vox, spacing_mm)
    assert strides[0] == (1, 1, 1)
    assert 2 <= len(strides) <= MOST_STAGES
    for size, multiple in zip(patch_vox, multiple_of(strides), strict=True):
        assert multiple == 1 or ceil(size / multiple) >= BOTTOM_VOX


@given(sizes, spacings, st.permutations(range(3)))
def test_no_axis_is_treated_differently(
    patch_vox: tuple[int, int, int], spacing_mm: tuple[float, float, float], order: list[int]
) -> None:
    x, y, z = order
    turned = strides_of((patch_vox[x], patch_vox[y], patch_vox[z]), (spacing_mm[x], spacing_mm[y], spacing_mm[z]))
    assert turned == [(step[x], step[y], step[z]) for step in strides_of(patch_vox, spacing_mm)]


def test_channels_double_up_to_the_most() -> None:
    assert channels_of(6, 32, 320) == [32, 64, 128, 256, 320, 320]
