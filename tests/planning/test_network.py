"""The network that is made for a patch: real ones, built by the registry."""

from math import prod

import pytest
import torch

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.nets.registry import build, check_patch
from pipeline.planning.network import CPU, GPU, fit, fit_patch

ISOTROPIC = (1.0, 1.0, 1.0)


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
