"""What voxels count in the structure loss: those near a contour more than others."""

from collections.abc import Sequence

import torch
from torch import Tensor

EMPHASIS = 5.0  # as published


def weigh_contours(shares: Tensor, valid: Tensor, *, exclusive: bool, box_vox: int) -> Tensor:
    """Return 1 + 5 |box(t) - t|, from 1 to 6: box is the mean over a cube of box_vox voxels around (Wei et al. 2020).

    shares: target t, float32 (B, C, x, y, z), 0 where not valid; valid: bool (B, 1, x, y, z).
    exclusive: one channel holds in a voxel (softmax); the largest weight of any then counts, (B, 1, x, y, z), else
    every channel has its own, (B, C, x, y, z).
    The mean is over valid voxels inside the patch: with zeros around it, as published, an organ that the patch cuts
    would have a false edge there.
    """
    around = box_sum(valid.float(), box_vox).clamp_min(1)
    weights = torch.ones_like(shares[:, :1] if exclusive else shares)
    for channel in range(shares.shape[1]):
        target = shares[:, channel : channel + 1]
        if not target.any():
            continue
        weight = 1 + EMPHASIS * (box_sum(target, box_vox) / around - target).abs()
        if exclusive:
            weights = torch.maximum(weights, weight)
        else:
            weights[:, channel : channel + 1] = weight
    return weights


def box_sum(values: Tensor, box_vox: int) -> Tensor:
    """Return the sum over a cube of box_vox (odd) voxels around each voxel, cut off at the borders; (..., x, y, z)."""
    for axis in (-3, -2, -1):
        values = _line_sum(values, box_vox // 2, axis)
    return values


def _line_sum(values: Tensor, reach_vox: int, axis: int) -> Tensor:
    """Return the sum from -reach_vox to +reach_vox along an axis, as a difference of running sums."""
    length = values.shape[axis]
    sums = values.cumsum(axis)
    place = torch.arange(length, device=values.device)
    upper = sums.index_select(axis, (place + reach_vox).clamp_max(length - 1))
    lower = sums.index_select(axis, (place - reach_vox - 1).clamp_min(0))
    shape: Sequence[int] = [length if i == values.ndim + axis else 1 for i in range(values.ndim)]
    return upper - lower * (place > reach_vox).view(shape)
