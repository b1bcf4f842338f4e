import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.nets.probe import check_head_weights, probe
from pipeline.nets.registry import build


class Ending(nn.Module):
    """A convolution, and something done to what it gives."""

    multiple_vox = smallest_vox = (1, 1, 1)

    def __init__(self, end):
        super().__init__()
        self.convolution = nn.Conv3d(1, 4, 3, padding=1)
        self.other = nn.Conv3d(4, 4, 1)
        self.scale = nn.Parameter(torch.ones(4, 1, 1, 1))
        self.tail = end if isinstance(end, nn.Module) else nn.Identity()
        self.end = (lambda net, features: features) if isinstance(end, nn.Module) else end

    def forward(self, image):
        return self.end(self, self.tail(self.convolution(image)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("UNet3d", {"channels": [4, 8, 8]}),
        ("UNet3d", {"channels": [4, 8, 8], "upsampling": "transposed", "norm": "group"}),
        ("monai.UNet", {"channels": [4, 8, 8], "num_res_units": 2}),
        ("monai.UNet", {"channels": [4, 8, 8], "num_res_units": 0}),
        ("monai.DynUNet", {"strides": [1, 2, 2], "filters": [4, 8, 8]}),
        ("monai.DynUNet", {"strides": [1, 2, 2], "filters": [4, 8, 8], "deep_supervision": True}),
        ("monai.SegResNet", {"init_filters": 8}),
        ("monai.AttentionUnet", {"channels": [4, 8, 8]}),
        ("monai.BasicUNet", {"features": [4] * 6}),
    ],
)
@pytest.mark.parametrize("checkpoint", ["none", "blocks"])
def test_networks_with_a_linear_ending_pass(name, options, checkpoint):
    net = build(NetSection(name=name, options=options, checkpoint=checkpoint), 1, 5)
    verdict = probe(net, (48, 48, 48), channels_out=5)
    assert verdict.channels_out == 5
    assert verdict.text.startswith(f"{name.removeprefix('monai.')} ends in a linear layer: 5 channels")
    assert verdict.probed_vox == (32, 32, 32)
    assert verdict.output_shapes[0] == (2, 5, 32, 32, 32)
    assert verdict.parameters == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("end", "operation"),
    [
        (nn.ReLU(), "Relu"),
        (nn.ReLU(inplace=True), "Relu"),
        (nn.LeakyReLU(0.1), "LeakyRelu"),
        (nn.PReLU(), "PreluKernel"),
        (nn.Sigmoid(), "Sigmoid"),
        (nn.Softmax(1), "Softmax"),
        (nn.Tanh(), "Tanh"),
        (nn.Hardtanh(), "Hardtanh"),
        (nn.InstanceNorm3d(4), "BatchNorm"),  # which torch makes it of
        (nn.BatchNorm3d(4), "BatchNorm"),
        (nn.GroupNorm(1, 4), "GroupNorm"),
        (nn.Sequential(nn.Conv3d(4, 4, 1), nn.ReLU(), nn.Dropout(0.5)), "Relu"),
    ],
)
def test_an_ending_that_is_not_linear_is_refused_by_operation_and_module(end, operation):
    kind = type(end[1] if isinstance(end, nn.Sequential) else end).__name__
    with pytest.raises(UserError, match=rf"ends in {operation} in module tail\S* \({kind}\).*1x1x1"):
        probe(Ending(end), (8, 8, 8))


@pytest.mark.parametrize(
    ("end", "operation"),
    [
        (lambda net, y: functional.relu(y), "Relu"),
        (lambda net, y: y.clamp(-5, 5), "Clamp"),
        (lambda net, y: y * torch.sigmoid(net.other(y)), "Mul"),
        (lambda net, y: y / (1 + y.abs()), "Div"),
        (lambda net, y: 2 / y, "Mul|Reciprocal|Div"),
        (lambda net, y: torch.relu(y) + torch.tanh(y), "Relu"),
        (lambda net, y: torch.cat([y[:, :2], torch.relu(y[:, 2:])], 1), "Relu"),
        (lambda net, y: y if net.training else torch.softmax(y, 1), "Softmax"),
        (lambda net, y: torch.softmax(y, 1) if net.training else y, "Softmax"),
        (lambda net, y: [y, torch.sigmoid(y)] if net.training else y, "Sigmoid"),
        (lambda net, y: functional.interpolate(torch.relu(y), scale_factor=1, mode="trilinear"), "Relu"),
    ],
)
def test_an_operation_outside_modules_is_refused_by_its_name(end, operation):
    with pytest.raises(UserError, match=f"ends in ({operation}), not in a linear layer"):
        probe(Ending(end), (8, 8, 8))


@pytest.mark.parametrize(
    "end",
    [
        nn.Identity(),
        nn.Dropout3d(0.5),
        lambda net, y: 2 * y / 3 + 1 - 0.5,
        lambda net, y: y * net.scale + net.scale,
        lambda net, y: torch.relu(y) + net.other(torch.relu(y)),
        lambda net, y: torch.cat([y[:, :2], y[:, 2:]], 1),
        lambda net, y: functional.interpolate(y[..., ::2, ::2, ::2], scale_factor=2),
        lambda net, y: functional.interpolate(y, size=y.shape[2:], mode="trilinear"),
        lambda net, y: functional.pad(y[..., 1:-1], (1, 1)),
        lambda net, y: torch.stack([y, y]).mean(0),
        lambda net, y: torch.stack([y, y]).sum(0),
        lambda net, y: y.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3),
        lambda net, y: y.flatten(2).unflatten(2, y.shape[2:]),
        lambda net, y: y.half().float(),
    ],
)
def test_linear_operations_behind_the_last_layer_pass(end):
    assert probe(Ending(end), (8, 8, 8)).channels_out == 4


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (lambda net, y: y.detach(), "has no gradient"),
        (lambda net, y: y.max(1).indices, "torch.int64"),
        (lambda net, y: y[..., ::2], r"\(2, 4, 8, 8, 4\); expected \(2, 4, 8, 8, 8\): pad its convolutions"),
        (lambda net, y: [y, y[:, :2]] if net.training else y, r"different channels: \[4, 2\]"),
        (lambda net, y: [y, y], "2 outputs in eval mode"),
        (lambda net, y: {"logits": y}, "is dict"),
        (lambda net, y: y @ y[:, :, :3], "cannot be run on a patch of .8, 8, 8. voxels in training mode: RuntimeError"),
    ],
)
def test_outputs_that_break_the_contract_are_refused(end, sentence):
    with pytest.raises(UserError, match=sentence):
        probe(Ending(end), (8, 8, 8))


def test_a_network_with_other_channels_than_the_head_is_refused():
    with pytest.raises(UserError, match=r"\(2, 4, 8, 8, 8\); expected \(2, 3, 8, 8, 8\): let its last layer"):
        probe(Ending(nn.Identity()), (8, 8, 8), channels_out=3)


def test_weights_that_no_output_depends_on_are_named():
    assert probe(Ending(nn.Identity()), (8, 8, 8)).unused == ("scale", "other.weight", "other.bias")
    net = build(NetSection(name="monai.BasicUNetPlusPlus", options={"features": [4] * 6}, checkpoint="blocks"), 1, 5)
    heads = {name for name, _ in net.named_parameters() if name.startswith("final_conv_0_")}
    assert set(probe(net, (32, 32, 32)).unused) == heads - {"final_conv_0_4.weight", "final_conv_0_4.bias"}


def test_a_network_without_a_backward_pass_is_refused():
    def spoil(net, features):
        gates = torch.sigmoid(features)
        logits = net.other(gates)
        gates.mul_(2)
        return logits

    with pytest.raises(UserError, match=r"the backward pass of Ending ends with RuntimeError: .* an inplace operation"):
        probe(Ending(spoil), (8, 8, 8))


@pytest.mark.parametrize(
    ("end", "which"),
    [
        (lambda net, y: y + torch.log(torch.tensor(-1.0)), "Ending"),
        (lambda net, y: [y, y + torch.tensor(torch.inf)] if net.training else y, "Ending, output 1,"),
        (lambda net, y: y if net.training else y + torch.tensor(torch.nan), "Ending in eval mode"),
    ],
)
def test_logits_that_are_no_numbers_are_refused(end, which):
    with pytest.raises(UserError, match=f"^net.name: {which} returns NaN or infinite logits for a finite input"):
        probe(Ending(end), (8, 8, 8))


def test_a_network_that_ends_the_program_is_refused():
    with pytest.raises(UserError, match=r"Ending cannot be run on a patch .* in training mode: SystemExit: 7"):
        probe(Ending(lambda net, y: sys.exit(7)), (8, 8, 8))
    with pytest.raises(UserError, match="cannot be run on two samples in eval mode: ValueError: one"):
        probe(Ending(one_at_a_time), (8, 8, 8))


def one_at_a_time(net, features):
    if not net.training and len(features) > 1:
        raise ValueError("one")
    return features


@pytest.mark.parametrize(
    ("end", "mixed"),
    [
        (nn.Identity(), False),
        (lambda net, y: y - y.mean(0, keepdim=True), True),
        (lambda net, y: y + net.other(y[:1]), True),
        (nn.Sequential(nn.BatchNorm3d(4), nn.Conv3d(4, 4, 1)), False),
        (nn.Sequential(nn.BatchNorm3d(4, track_running_stats=False), nn.Conv3d(4, 4, 1)), True),
        (nn.Sequential(nn.InstanceNorm3d(4), nn.Conv3d(4, 4, 1)), False),
    ],
)
def test_it_is_seen_whether_a_prediction_depends_on_the_others_of_its_batch(end, mixed):
    assert probe(Ending(end), (8, 8, 8)).mixes_samples is mixed


@pytest.mark.parametrize(("end", "outputs"), [(nn.Identity(), 1), (lambda net, y: [y] * 3 if net.training else y, 3)])
def test_head_weights_are_as_many_as_the_outputs_in_training(end, outputs):
    verdict = probe(Ending(end), (8, 8, 8))
    check_head_weights((), verdict)
    check_head_weights((1.0,) * outputs, verdict)
    with pytest.raises(UserError, match=f"net.head_weights: found 2, but the network has {outputs} outputs in train"):
        check_head_weights((1.0, 0.5), verdict)


def test_a_network_made_for_one_size_is_run_at_the_size_of_the_patch():
    class Fixed(Ending):
        def forward(self, image):
            return super().forward(image) + torch.zeros(40, 40, 40)

    assert probe(Fixed(nn.Identity()), (40, 40, 40)).probed_vox == (40, 40, 40)


def test_the_network_and_the_random_generator_are_left_as_they_were():
    net = Ending(nn.Sequential(nn.BatchNorm3d(4), nn.Dropout(0.5), nn.Conv3d(4, 4, 1))).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    probe(net, (8, 8, 8))
    assert torch.equal(torch.rand(1), expected)
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
