"""Two losses side by side, on made labels; see `bench/losses.py`."""

from collections.abc import Callable
from typing import Any

import torch
from monai.losses import DiceCELoss
from torch import Tensor

from bench.monai_measure import Row, Sides, peak_row, seconds_row
from pipeline.config.loss import LossSection
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.losses.build import build

OURS: dict[str, dict[str, Any]] = {
    "dice_ce": {"name": "dice_ce"},
    "dice_ce over all classes, as MONAI's": {"name": "dice_ce", "dice_over": "all"},
    "dice_topk": {"name": "dice_topk"},
    "focal": {"name": "focal"},
    "tversky": {"name": "tversky"},
    "focal_tversky": {"name": "focal_tversky"},
    "generalised_dice": {"name": "generalised_dice"},
    "structure": {"name": "structure"},
    "dice_ce and boundary": {"name": "dice_ce", "boundary": 0.1},
    "dice_ce and skeleton recall of 3 tubes": {"name": "dice_ce", "tubes": ["organ 1", "organ 2", "organ 3"]},
}


def rows(channels: int, cube_vox: int, samples: int) -> list[Row]:
    """Return two lines a loss of ours, time and memory of loss and gradient, against MONAI's DiceCELoss."""
    found = []
    for name, keys in OURS.items():
        arguments = (keys, channels, cube_vox, samples)
        found.append(seconds_row(name, loss_sides(*arguments)))
        found.append(peak_row(f"{name}: memory", loss_sides, *arguments))
    return found


def loss_sides(keys: dict[str, Any], channels: int, cube_vox: int, samples: int) -> Sides:
    """Return a loss of ours by its config keys and MONAI's DiceCELoss, each with its gradient."""
    target = made_labels(channels, cube_vox).expand(samples, -1, -1, -1).contiguous()
    head = Head("softmax", Labels({f"organ {organ}": (organ,) for organ in range(1, channels)}))
    logits = torch.randn(samples, channels, cube_vox, cube_vox, cube_vox, requires_grad=True)
    ours = build(LossSection.model_validate(keys), head)
    theirs = DiceCELoss(to_onehot_y=True, softmax=True)

    def gradient_of(loss: Callable[[], Tensor]) -> None:
        logits.grad = None
        loss().backward()

    return (
        lambda: gradient_of(lambda: ours(logits, target).mean()),
        lambda: gradient_of(lambda: theirs(logits, target[:, None])),
    )


def made_labels(channels: int, cube_vox: int) -> Tensor:
    """Return balls of all classes in background, uint8 (x, y, z)."""
    generator = torch.Generator().manual_seed(0)
    where = torch.stack(torch.meshgrid(*[torch.arange(cube_vox)] * 3, indexing="ij"), -1)
    labels = torch.zeros(cube_vox, cube_vox, cube_vox, dtype=torch.uint8)
    for organ in range(1, channels):
        centre = torch.randint(cube_vox, (3,), generator=generator)
        labels[(where - centre).square().sum(-1) < (cube_vox / 8) ** 2] = organ
    return labels
