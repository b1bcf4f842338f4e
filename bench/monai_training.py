"""Losses and gradient checkpointing, against MONAI's; see `bench/monai.py`."""

from collections.abc import Callable

import torch
from monai.losses import DiceCELoss
from monai.networks.nets.unet import CheckpointUNet, UNet
from torch import Tensor, nn

from bench.monai_measure import Row, Sides, peak_row, row, seconds_row
from bench.monai_scans import made_scan
from pipeline.config.loss import LossSection
from pipeline.config.net import NetSection
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.losses.build import build as build_loss
from pipeline.nets.recompute import innermost_blocks
from pipeline.nets.registry import build as build_net

PATCH = 96
CHANNELS = [16, 32, 64, 128]
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
    our_loss = build_loss(LossSection(), head)
    their_loss = DiceCELoss(to_onehot_y=True, softmax=True)

    def gradient_of(loss: Callable[[], Tensor]) -> None:
        logits.grad = None
        loss().backward()

    return (
        lambda: gradient_of(lambda: our_loss(logits, target).mean()),
        lambda: gradient_of(lambda: their_loss(logits, target[:, None])),
    )


def checkpointing() -> list[Row]:
    """Return the lines of what is kept between forward and backward, and of what a step costs with it."""
    rows = []
    for name in ("UNet3d", "monai.UNet"):
        held = [held_bytes(network(name, checkpoint)) / MIB for checkpoint in ("blocks", "none")]
        rows.append(row(f"{name}, 64-cube: kept, against none", *held, "MiB"))
    kept = [held_bytes(net) / MIB for net in checkpointed()]
    runs = [runs_of_a_block(net) for net in checkpointed()]
    what = "monai.UNet, 96-cube: a step"
    return [
        *rows,
        row("monai.UNet, 64-cube: kept, against CheckpointUNet", *kept, "MiB"),
        row("monai.UNet: runs of the deepest block in a step", *runs, ""),
        seconds_row(what, step_sides()),
        peak_row(f"{what}, memory", step_sides),
    ]


def network(name: str, checkpoint: str) -> nn.Module:
    """Return a network of this project's registry."""
    section = NetSection(name=name, options={"channels": CHANNELS}, checkpoint=checkpoint)
    return build_net(section, 1, 6)


def checkpointed() -> tuple[nn.Module, UNet]:
    """Return MONAI's UNet with our checkpointing, and with its own."""
    theirs = CheckpointUNet(3, 1, 6, CHANNELS, [2] * (len(CHANNELS) - 1), num_res_units=2)
    return network("monai.UNet", "blocks"), theirs


def held_bytes(net: nn.Module) -> int:
    """Return the bytes of distinct tensors that a graph keeps for the backward pass, parameters left out."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = net(torch.randn(1, 1, 64, 64, 64))
    del output
    return sum(storages.values())


def runs_of_a_block(net: nn.Module) -> int:
    """Return how often the network's deepest block, the one with the most channels, runs in one step."""
    deepest = max(innermost_blocks(net), key=lambda block: max(p.shape[0] for p in block.parameters()))
    runs = []
    deepest.register_forward_pre_hook(lambda module, inputs: runs.append(1))
    step(net, 32)
    return len(runs)


def step_sides() -> Sides:
    """Return forward and backward of both."""
    ours, theirs = checkpointed()
    return lambda: step(ours, PATCH), lambda: step(theirs, PATCH)


def step(net: nn.Module, patch: int) -> None:
    """Run forward and backward once."""
    net.zero_grad()
    net(torch.ones(1, 1, patch, patch, patch)).square().mean().backward()
