import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.nets.unet3d import NEGATIVE_SLOPE, Block, Convolution, InstanceNorm, Stage, UNet3d, initialise

SMALL = (4, 6, 8)


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(*[st.integers(5, 14)] * 3),
    upsampling=st.sampled_from(["nearest", "linear", "transposed"]),
    norm=st.sampled_from(["instance", "group"]),
)
def test_every_size_from_the_smallest_up_keeps_its_size(size, upsampling, norm):
    net = UNet3d(1, 3, SMALL, upsampling=upsampling, norm=norm)
    assert all(n >= low for n, low in zip(size, net.smallest_vox, strict=True))
    assert net(torch.randn(2, 1, *size)).shape == (2, 3, *size)


def test_strides_may_differ_by_axis_and_need_not_be_powers_of_two():
    net = UNet3d(2, 5, SMALL, strides=[1, [2, 2, 1], 3])
    assert net.smallest_vox == (7, 7, 4)
    assert net.multiple_vox == (1, 1, 1)
    assert net(torch.randn(1, 2, 7, 9, 4)).shape == (1, 5, 7, 9, 4)
    seen = []
    net.encoder[2].register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2:]))
    net(torch.randn(1, 2, 7, 7, 4))
    assert seen == [(2, 2, 2)]


def test_the_number_of_convolutions_is_that_of_the_options():
    net = UNet3d(1, 2, SMALL, convolutions=3, decoder_convolutions=1)
    assert [len(stage) for stage in net.encoder] == [3, 3, 3]
    assert [len(stage) for stage in net.decoder] == [1, 1]


def test_convolutions_before_a_norm_have_no_bias_and_activations_are_in_place():
    for block in (part for part in UNet3d(1, 2, SMALL).modules() if isinstance(part, Block)):
        assert block[0].bias is None
        assert block[2].inplace


def test_the_first_loss_is_near_that_of_knowing_nothing():
    torch.manual_seed(0)
    logits = UNet3d(1, 7)(torch.randn(1, 1, 32, 32, 32))
    loss = functional.cross_entropy(logits.detach(), torch.randint(0, 7, (1, 32, 32, 32)))
    assert float(loss) == pytest.approx(math.log(7), abs=0.05)


def test_initial_weights_keep_the_variance_through_convolution_and_activation():
    torch.manual_seed(0)
    layers = nn.Sequential(*[nn.Conv3d(32, 32, 3, padding=1, padding_mode="circular", bias=False) for _ in range(4)])
    layers.apply(initialise)
    features = torch.randn(1, 32, 12, 12, 12)
    with torch.no_grad():
        for layer in layers:
            features = functional.leaky_relu(layer(features), NEGATIVE_SLOPE)
    assert float(features.square().mean()) == pytest.approx(1, rel=0.5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_instance_norm_equals_torch_in_values_and_gradients(layout):
    torch.manual_seed(0)
    ours, theirs = InstanceNorm(6).double(), nn.InstanceNorm3d(6, affine=True).double()
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.linspace(0.5, 1.5, 6))
            norm.bias.copy_(torch.linspace(-1, 1, 6))
    features = (3 + 2 * torch.randn(2, 6, 5, 4, 3, dtype=torch.float64)).to(memory_format=layout)
    upstream = torch.randn(features.shape, dtype=torch.float64)
    gradients = []
    for norm in (ours, theirs):
        given = features.clone().requires_grad_()
        output = norm(given)
        gradients.append((output, *torch.autograd.grad(output, (given, norm.weight, norm.bias), upstream)))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.eval()(features), gradients[0][0], rtol=1e-9, atol=1e-9)


def test_a_sample_does_not_depend_on_the_others_in_its_batch():
    torch.manual_seed(0)
    net = UNet3d(1, 3, SMALL)
    batch = torch.randn(2, 1, 8, 8, 8)
    torch.testing.assert_close(net(batch)[:1], net(batch[:1]), rtol=1e-4, atol=1e-6)


def test_group_norm_takes_the_most_groups_up_to_eight_that_divide_the_channels():
    groups = [part.num_groups for part in Stage(1, 12, 1, "group").modules() if isinstance(part, nn.GroupNorm)]
    assert groups == [4]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": [16]}, "at least two numbers"),
        ({"channels": 16}, "at least two numbers"),
        ({"channels": [16, 0]}, "net.options.channels: 0"),
        ({"channels": [16, "a"]}, "net.options.channels: a"),
        ({"convolutions": 0}, "net.options.convolutions: 0"),
        ({"decoder_convolutions": 1.5}, "net.options.decoder_convolutions: 1.5"),
        ({"strides": [1, 2]}, "for 5 stages"),
        ({"strides": 2}, "for 5 stages"),
        ({"strides": [2, 2, 2, 2, 2]}, "the first stage"),
        ({"strides": [1, 2, 2, 2, [2, 2]]}, "for each stage"),
        ({"strides": [1, 2, 2, 2, 0]}, "for each stage"),
        ({"norm": "batch"}, "'batch'; expected one of instance, group"),
        ({"upsampling": "cubic"}, "'cubic'; expected one of nearest, linear, transposed"),
    ],
)
def test_options_that_make_no_network_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        UNet3d(1, 2, **options)


@pytest.mark.parametrize("size", [2, 3])
def test_weight_gradients_in_bfloat16_are_those_of_float32_however_small_the_features(size):
    torch.manual_seed(0)
    convolution = Convolution(8, 8, 3, padding=1, bias=False).to(memory_format=torch.channels_last_3d)
    features = torch.randn(2, 8, size, 3, 3).to(memory_format=torch.channels_last_3d)
    upstream = torch.randn(2, 8, size, 3, 3).to(memory_format=torch.channels_last_3d)
    (expected,) = torch.autograd.grad(
        functional.conv3d(features, convolution.weight, padding=1), convolution.weight, upstream
    )
    with torch.autocast("cpu", torch.bfloat16):
        output = convolution(features)
    (gradient,) = torch.autograd.grad(output, convolution.weight, upstream.to(output.dtype))
    assert (gradient - expected).abs().max() < 0.02 * expected.abs().max()
