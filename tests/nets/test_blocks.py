import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pipeline.nets.blocks import NEGATIVE_SLOPE, Block, ResidualBlock, Stage, initialise
from pipeline.nets.convolution import Convolution


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(*[st.integers(3, 11)] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    kernel=st.tuples(*[st.sampled_from([3, 5])] * 3),
    convolutions=st.integers(1, 3),
    block=st.sampled_from(["plain", "residual"]),
)
def test_a_stage_divides_every_axis_by_its_stride_and_rounds_up(size, stride, kernel, convolutions, block):
    stage = Stage(2, 4, convolutions, "group", stride, kernel=kernel, block=block)
    expected = [-(-n // step) for n, step in zip(size, stride, strict=True)]
    assert stage(torch.randn(2, 2, *size)).shape == (2, 4, *expected)


@pytest.mark.parametrize(("convolutions", "bridged"), [(1, [1]), (2, [2]), (3, [2, 1]), (4, [2, 2])])
def test_a_shortcut_leads_around_every_two_convolutions_and_an_odd_last_one(convolutions, bridged):
    blocks = [part for part in Stage(2, 4, convolutions, "group", block="residual") if isinstance(part, ResidualBlock)]
    assert [sum(isinstance(part, Convolution) for part in block.body.modules()) for block in blocks] == bridged


def normed(features):
    return functional.instance_norm(features)  # weight 1 and bias 0 are what a new norm has


def bent(features):
    return functional.leaky_relu(features, NEGATIVE_SLOPE)


def test_a_residual_block_is_what_its_equation_says():
    torch.manual_seed(0)
    block = ResidualBlock(2, 4, 2, "instance", (2, 2, 1), (3, 3, 1)).double()
    image = torch.randn(2, 2, 5, 6, 4, dtype=torch.float64)
    first, second = (part.weight for part in block.body.modules() if isinstance(part, Convolution))
    body = bent(normed(functional.conv3d(image, first, stride=(2, 2, 1), padding=(1, 1, 0))))
    body = normed(functional.conv3d(body, second, padding=(1, 1, 0)))
    averages = functional.avg_pool3d(functional.pad(image, (0, 0, 0, 0, 0, 1), "replicate"), (2, 2, 1))
    expected = bent(body + functional.conv3d(averages, block.shortcut[-1].weight))
    torch.testing.assert_close(block(image), expected)


def test_a_residual_block_that_keeps_its_shape_adds_its_input_as_it_is():
    block = ResidualBlock(4, 4, 1, "group", (1, 1, 1), (3, 3, 3))
    nn.init.zeros_(block.body[0].weight)
    image = torch.rand(1, 4, 3, 3, 3)
    assert torch.equal(block(image), image)
    assert len(block.shortcut) == 0


def test_the_average_at_the_far_end_is_over_the_voxels_that_there_are():
    block = ResidualBlock(1, 1, 1, "group", (2, 1, 1), (3, 3, 3))
    line = torch.tensor([1.0, 3.0, 7.0]).view(1, 1, 3, 1, 1)
    assert block.shortcut[0](line).flatten().tolist() == [2, 7]


@pytest.mark.parametrize("block", ["plain", "residual"])
def test_no_convolution_has_a_bias_and_activations_are_in_place(block):
    parts = list(Stage(1, 4, 3, "instance", (2, 2, 2), block=block).modules())
    assert [part.bias for part in parts if isinstance(part, nn.Conv3d)] == [None] * (3 if block == "plain" else 4)
    assert all(part.inplace for part in parts if isinstance(part, nn.LeakyReLU))


def test_dropout_drops_whole_channels_in_training_and_nothing_afterwards():
    torch.manual_seed(0)
    stage = Stage(1, 200, 1, "instance", dropout=0.25)
    kept = Stage(1, 200, 1, "instance")
    kept.load_state_dict(stage.state_dict())
    image = torch.randn(2, 1, 4, 4, 4)
    dropped, whole = stage(image), kept(image)
    zero = (dropped == 0).flatten(2)
    assert torch.equal(zero.all(2), zero.any(2))
    assert 0.18 < float(zero.all(2).float().mean()) < 0.32  # 400 channels: the standard deviation is 0.022
    left = ~zero.all(2)
    torch.testing.assert_close(dropped[left], whole[left] / 0.75)
    assert torch.equal(stage.eval()(image), kept.eval()(image))


def test_initial_weights_keep_the_variance_through_convolution_and_activation():
    torch.manual_seed(0)
    layers = nn.Sequential(*[nn.Conv3d(32, 32, 3, padding=1, padding_mode="circular", bias=False) for _ in range(4)])
    layers.apply(initialise)
    features = torch.randn(1, 32, 12, 12, 12)
    with torch.no_grad():
        for layer in layers:
            features = functional.leaky_relu(layer(features), NEGATIVE_SLOPE)
    assert float(features.square().mean()) == pytest.approx(1, rel=0.5)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 3, 1), (1, 3, 3), (5, 3, 3)])
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_weight_gradients_in_bfloat16_are_those_of_float32_however_small_the_features(size, kernel):
    torch.manual_seed(0)
    convolution = Block(8, 8, "group", kernel=kernel)[0].to(memory_format=torch.channels_last_3d)
    features = torch.randn(2, 8, size, 3, 2).to(memory_format=torch.channels_last_3d)
    upstream = torch.randn(2, 8, size, 3, 2).to(memory_format=torch.channels_last_3d)
    padding = [n // 2 for n in kernel]
    (expected,) = torch.autograd.grad(
        functional.conv3d(features, convolution.weight, padding=padding), convolution.weight, upstream
    )
    with torch.autocast("cpu", torch.bfloat16):
        output = convolution(features)
    (gradient,) = torch.autograd.grad(output, convolution.weight, upstream.to(output.dtype))
    assert (gradient - expected).abs().max() < 0.02 * expected.abs().max()
