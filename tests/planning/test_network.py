"""The network that is made for a patch: real ones, built by the registry; strides worked out by hand, and always."""

from math import ceil, prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.nets.axes import product_of
from pipeline.nets.registry import build, check_patch
from pipeline.planning.network import (
    BOTTOM_VOX,
    CPU,
    GPU,
    MOST_STAGES,
    channels_of,
    fit,
    fit_patch,
    in_short,
    strides_of,
)

ISOTROPIC = (1.0, 1.0, 1.0)
sizes = st.tuples(st.integers(1, 320), st.integers(1, 320), st.integers(1, 320))
spacings = st.tuples(st.floats(0.3, 8), st.floats(0.3, 8), st.floats(0.3, 8))


def test_a_cpu_gets_a_smaller_network_than_a_gpu() -> None:
    small, large = (fit_patch(NetSection(), family, 3, (64, 64, 64), ISOTROPIC).net.options for family in (CPU, GPU))
    assert small == {"channels": [16, 32, 64, 128, 128], "strides": [1, 2, 2, 2, 2], "decoder_convolutions": 1}
    assert large == {"channels": [32, 64, 128, 256, 320], "strides": [1, 2, 2, 2, 2]}


def test_a_patch_is_a_multiple_of_all_strides_and_the_network_takes_it() -> None:
    fitted = fit(NetSection(), CPU, 3, (117, 83, 29), (1.0, 1.0, 3.0), 60_000)
    assert fitted.net.options["strides"][1] == [2, 2, 1]
    assert all(size % step == 0 for size, step in zip(fitted.patch_vox, fitted.multiple_vox, strict=True))
    assert prod(fitted.patch_vox) <= 60_000
    net = build(fitted.net, 1, 3)
    check_patch(net, fitted.patch_vox, "UNet3d")
    assert net.eval()(torch.zeros(1, 1, *fitted.patch_vox)).shape == (1, 3, *fitted.patch_vox)


def test_a_body_of_one_slice_gets_a_patch_that_the_network_takes() -> None:
    fitted = fit(NetSection(), CPU, 2, (80, 80, 1), ISOTROPIC, 10_000)
    check_patch(build(fitted.net, 1, 2), fitted.patch_vox, "UNet3d")
    assert fitted.patch_vox[2] == 2  # an instance norm needs two voxels; the second slice is air


def test_given_options_stay() -> None:
    net = NetSection(options={"channels": [4, 8, 8], "norm": "group"})
    assert fit_patch(net, GPU, 2, (64, 64, 64), ISOTROPIC).net.options == {
        "strides": [1, 2, 2],
        "channels": [4, 8, 8],
        "norm": "group",
    }


def test_stages_without_voxels_left_shrink_nothing() -> None:
    net = NetSection(options={"channels": [4, 8, 8, 8]})
    assert fit_patch(net, GPU, 2, (8, 8, 8), ISOTROPIC).net.options["strides"] == [1, 2, 1, 1]


def test_given_strides_decide_the_number_of_channels() -> None:
    net = NetSection(options={"strides": [1, [2, 2, 1], 2]})
    fitted = fit_patch(net, CPU, 2, (64, 64, 64), ISOTROPIC)
    assert fitted.net.options["channels"] == [16, 32, 64]
    assert fitted.multiple_vox == (4, 4, 2)


def test_another_network_keeps_its_options_and_says_what_it_takes() -> None:
    net = NetSection(name="monai.SegResNet", options={"blocks_down": [1, 2, 2]})
    fitted = fit(net, CPU, 2, (90, 90, 90), ISOTROPIC, 50_000)
    assert fitted.net == net
    assert fitted.multiple_vox == (4, 4, 4)
    assert all(size % 4 == 0 for size in fitted.patch_vox)


@pytest.mark.parametrize("options", [{"channels": "many"}, {"strides": [2, 2]}, {"strides": 2}, {"depth": 3}])
def test_options_that_make_no_network_get_their_sentence(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"net\.options"):
        fit_patch(NetSection(options=options), CPU, 2, (64, 64, 64), ISOTROPIC)


# Strides, by nnU-Net's rule


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
    for size, multiple in zip(patch_vox, product_of(strides), strict=True):
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
