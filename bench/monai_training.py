"""Losses and gradient checkpointing, against MONAI's; see `bench/monai.py`."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from monai.losses import DiceCELoss
from monai.networks.nets.unet import CheckpointUNet
from torch import Tensor, nn

from bench.monai_measure import Row, Sides, peak_row, row, seconds_row
from bench.monai_scans import made_scan
from pipeline.config.loss import LossSection
from pipeline.config.net import NetSection
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.losses.build import build as build_loss
from pipeline.nets.registry import build as build_net

PATCH = 96
PATCHES = (2, 1, 64, 64, 64)  # that networks are given
CHANNELS = [16, 32, 64, 128, 256]
MIB = 2**20


def losses() -> list[Row]:
    """Return the lines of a loss and its gradient at 6 and at 14 channels."""
    rows = []
    for channels in (6, 14):
        what = f"2 x 96-cube, {channels} channels: loss and gradient"
        rows.append(seconds_row(what, loss_sides(channels)))
        rows.append(peak_row(f"{what}, memory", loss_sides, channels))
    return rows


def loss_sides(channels: int) -> Sides:
    """Return Dice plus cross-entropy of both, with its gradient."""
    labels = made_scan().encoded[80 : 80 + PATCH, 80 : 80 + PATCH, 50 : 50 + PATCH] % channels
    target = torch.from_numpy(labels).expand(2, -1, -1, -1).contiguous()
    head = Head("softmax", Labels({f"organ {organ}": (organ,) for organ in range(1, channels)}))
    logits = torch.randn(2, channels, PATCH, PATCH, PATCH, requires_grad=True)
    our_loss = build_loss(LossSection(name="dice_ce"), head)
    their_loss = DiceCELoss(to_onehot_y=True, softmax=True)

    def gradient_of(loss: Callable[[], Tensor]) -> None:
        logits.grad = None
        loss().backward()

    return (
        lambda: gradient_of(lambda: our_loss(logits, target).mean()),
        lambda: gradient_of(lambda: their_loss(logits, target[:, None])),
    )


def checkpointing() -> list[Row]:
    """Return the lines of what is kept between forward and backward, and of what a step costs with it.

    The networks get two patches of 64^3 voxels.
    """
    rows = []
    for name in ("UNet3d", "monai.UNet"):
        kept = [kept_bytes(network(name, checkpoint)) / MIB for checkpoint in ("blocks", "none")]
        rows.append(row(f"{name}: kept after forward, against none", *kept, "MiB"))
    none, own = "a step, against none", "a step, against CheckpointUNet"
    kept = [kept_bytes(net) / MIB for net in checkpointed()]
    return [
        *rows,
        peak_row(f"UNet3d: {none}, memory", plain_sides, "UNet3d"),
        seconds_row(f"UNet3d: {none}", plain_sides("UNet3d")),
        row("monai.UNet: kept after forward, against CheckpointUNet", *kept, "MiB"),
        peak_row(f"monai.UNet: {own}, memory", checkpointed_sides),
        seconds_row(f"monai.UNet: {own}", checkpointed_sides()),
        row("monai.UNet: most runs of a convolution in a step", *map(most_runs, checkpointed()), ""),
        row("monai.UNet: most updates of a BatchNorm in a step", *map(most_updates, checkpointed("batch")), ""),
    ]


def network(name: str, checkpoint: str, **options: Any) -> nn.Module:
    """Return a network of this project's registry."""
    return build_net(NetSection(name=name, options={"channels": CHANNELS, **options}, checkpoint=checkpoint), 1, 6)


def checkpointed(norm: str = "instance") -> tuple[nn.Module, nn.Module]:
    """Return MONAI's UNet with our checkpointing, and with its own."""
    theirs = CheckpointUNet(3, 1, 6, CHANNELS, [2] * (len(CHANNELS) - 1), num_res_units=2, norm=norm)
    return network("monai.UNet", "blocks", norm=norm), theirs


def kept_bytes(net: nn.Module) -> int:
    """Return the bytes of distinct tensors that a graph keeps for the backward pass, parameters left out."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = net(torch.ones(PATCHES))
    del output
    return sum(storages.values())


def most_runs(net: nn.Module) -> int:
    """Return how often that convolution runs in one step which runs most often."""
    runs: Counter[nn.Module] = Counter()
    for part in net.modules():
        if isinstance(part, nn.Conv3d):
            part.register_forward_pre_hook(lambda part, inputs: runs.update([part]))
    step(net)
    return max(runs.values())


def most_updates(net: nn.Module) -> int:
    """Return how often that BatchNorm moves its statistics in one step which moves them most often."""
    step(net)
    return max(int(part.num_batches_tracked) for part in net.modules() if isinstance(part, nn.BatchNorm3d))


def plain_sides(name: str) -> Sides:
    """Return a step with our checkpointing, and one without any."""
    ours, none = (network(name, checkpoint) for checkpoint in ("blocks", "none"))
    return lambda: step(ours), lambda: step(none)


def checkpointed_sides() -> Sides:
    """Return a step of MONAI's UNet with our checkpointing, and with its own."""
    ours, theirs = checkpointed()
    return lambda: step(ours), lambda: step(theirs)


def step(net: nn.Module) -> None:
    """Run forward and backward once."""
    net.zero_grad()
    net(torch.ones(PATCHES)).square().mean().backward()
