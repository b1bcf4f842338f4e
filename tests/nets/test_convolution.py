import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.config.load import load
from pipeline.nets.convolution import Convolution, guard, right_in_cpu_bfloat16
from pipeline.nets.registry import build


@pytest.mark.parametrize("stride", [1, 2])
def test_a_small_map_of_one_sample_has_the_bits_that_it_has_beside_another(stride):
    torch.manual_seed(0)
    convolution = Convolution(32, 8, 3, stride, padding=1, bias=False).to(memory_format=torch.channels_last_3d)
    maps = torch.randn(2, 32, 12, 12, 12).to(memory_format=torch.channels_last_3d)
    alone = convolution(maps[:1])
    assert torch.equal(alone, convolution(maps)[:1])
    expected = functional.conv3d(maps[:1].double(), convolution.weight.double(), stride=stride, padding=1)
    torch.testing.assert_close(alone.double(), expected, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(alone.square().sum(), convolution.weight)
    (wanted,) = torch.autograd.grad(expected.square().sum(), convolution.weight)
    torch.testing.assert_close(gradient.double(), wanted.double(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("monai.UNet", "{channels: [8, 8, 8], strides: [2, 2], num_res_units: 1}"),
        (
            "monai.DynUNet",
            "{filters: [8, 8, 8], strides: [1, 2, 2], kernel_size: [3, 3, 3], upsample_kernel_size: [2, 2]}",
        ),
        ("monai.SegResNet", "{init_filters: 8, blocks_down: [1, 1, 1], blocks_up: [1, 1]}"),
    ],
)
def test_a_network_learns_in_bfloat16_what_it_learns_in_float32_down_to_two_voxels(name, options):
    torch.manual_seed(0)
    net = build(load([f"net.name={name}", f"net.options={options}"]).net, 1, 3)
    assert right_in_cpu_bfloat16(net.to(memory_format=torch.channels_last_3d))
    image = torch.randn(2, 1, 8, 8, 8)
    gradients = []
    for enabled in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            net(image).float().square().mean().backward()
        gradients.append(torch.cat([part.grad.flatten() for part in net.parameters() if part.grad is not None]))
    exact, rounded = gradients
    assert (rounded - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("name", ["UNet3d", "UCTransNet3d", "TransFuse3d", "monai.BasicUNet"])
def test_networks_of_ours_and_of_monai_are_guarded(name):
    assert right_in_cpu_bfloat16(build(load([f"net.name={name}"]).net, 1, 3, (64, 64, 64)))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, 3, 3, 3))

    def forward(self, features):
        return functional.conv3d(features, self.weight, padding=1)


@pytest.mark.parametrize(
    "net", [Functional(), nn.Conv3d(1, 1, 3, padding=1), nn.Conv3d(1, 1, (3, 1, 1), padding="same")]
)
def test_a_padded_convolution_that_is_not_guarded_is_not_called_right(net):
    assert not right_in_cpu_bfloat16(nn.Sequential(net))


def test_a_guarded_network_has_the_state_dict_and_the_values_that_it_had():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, groups=2), nn.Conv3d(4, 2, 3, dilation=2))
    before, image = dict(net.state_dict()), torch.randn(2, 1, 9, 9, 9)
    expected = net(image)
    guard(net)
    assert [type(part) for part in net] == [Convolution, nn.Conv3d, nn.Conv3d]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.equal(net(image), expected)
