import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.nets.probe import probe
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
        (lambda net, y: y[..., ::2], r"\(2, 4, 8, 8, 4\); expected \(2, 4, 8, 8, 8\)"),
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
    with pytest.raises(UserError, match=r"\(2, 4, 8, 8, 8\); expected \(2, 3, 8, 8, 8\)"):
        probe(Ending(nn.Identity()), (8, 8, 8), channels_out=3)


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
