"""How far a network can see: the voxels of the input that the logits of a voxel depend on."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.nets.trace import SMALL_VOX, noise
from pipeline.volume.grid import Int3

LONG_VOX = 256  # of the input along the axis that is measured; the others are as short as the network takes


@dataclass(frozen=True)
class Field:
    """A receptive field. size_vox: along x, y, z. whole: along which axes it is all of the input, and may be larger."""

    size_vox: Int3
    whole: tuple[bool, bool, bool]


class NoGradient(Exception):
    """No voxel of the input changes the logits."""


def receptive_field(network: Any, channels_in: int, patch_vox: Int3) -> Field:
    """Return the box of input voxels on which the logits of the voxel in the middle depend, norms left out.

    It is the theoretical field (Araujo 2019), read from gradients, which serves every architecture: those voxels whose
    gradient is not 0, with random weights and noise. A norm over voxels and global pooling see all of the patch. Norms
    are left out, as they pass on two numbers a channel; attention and global pooling are not. What a trained network
    makes use of is smaller (Luo 2016).

    Measured an axis at a time on an input of 256 voxels along it, or on the patch where the network is made for one
    size. The network is left as it is. Raises NoGradient where nothing is seen, and whatever the network raises
    where it cannot be run.
    """
    bare = copy.deepcopy(network).eval()
    for part in bare.modules():
        if "norm" in type(part).__name__.lower() and not list(part.children()):
            part.register_forward_hook(pass_on)
    found = [_extent(bare, axis, long_sizes(network, axis, patch_vox), channels_in) for axis in range(3)]
    (x, in_x), (y, in_y), (z, in_z) = found
    return Field((x, y, z), (in_x, in_y, in_z))


def pass_on(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Forward hook that leaves a module out."""
    return inputs[0] if output.shape == inputs[0].shape else output


def long_sizes(network: Any, axis: int, patch_vox: Int3) -> tuple[Int3, Int3]:
    """Return the sizes to measure an axis at: long along it and short along the others; the patch."""
    lows = [SMALL_VOX if low == 1 else low for low in network.smallest_vox]
    lows[axis] = max(LONG_VOX, lows[axis])
    x, y, z = (ceil(low / step) * step for low, step in zip(lows, network.multiple_vox, strict=True))
    return (x, y, z), patch_vox


def _extent(network: nn.Module, axis: int, sizes: Sequence[Int3], channels_in: int) -> tuple[int, bool]:
    """Return how many voxels along an axis the logits in the middle depend on, and whether these reach an end."""
    for size in dict.fromkeys(sizes):
        try:
            seen = _seen(network, axis, size, channels_in)
        except Exception as error:  # a foreign network may raise anything at a size that it is not made for
            refusal = error
            continue
        if not len(seen):
            raise NoGradient(
                "the gradient of the logits is 0 in every voxel, as behind a last layer that begins at 0, or where the "
                "mean over the batch is taken off"
            )
        first, last = int(seen[0]), int(seen[-1])
        return last - first + 1, first == 0 or last == size[axis] - 1
    raise refusal


def _seen(network: nn.Module, axis: int, size_vox: Int3, channels_in: int) -> Tensor:
    """Return the places along an axis, in order, that hold a voxel with a gradient."""
    image = noise(network, 1, channels_in, size_vox).requires_grad_()
    x, y, z = (n // 2 for n in size_vox)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(network(image)[0, :, x, y, z].sum(), image)
    others = [dimension for dimension in range(5) if dimension != axis + 2]
    return (gradient != 0).sum(others).nonzero().flatten()
