"""Attention gates: what a decoder lets through of a skip."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.nets.upsample import crop
from pipeline.volume.grid import Int3

OPEN = 3.0  # sigmoid(3) = 0.95


class AttentionGate(nn.Module):
    """An additive attention gate (Oktay 2018): skip * sigmoid(w relu(A skip + B features + b) + c).

    skip: float (B, channels, X, Y, Z). features: float (B, channels_below, ceil(X / stride), ...), from the stage
    below, where the weights are computed: A has kernel and stride of the stage, B and w are 1x1x1. One weight a voxel,
    in (0, 1), is interpolated to the skip's size. Gates begin open, as in the paper, here at 0.95 everywhere; the
    convolution and norm that its code has behind the gate are left to the decoder's first convolution.
    """

    def __init__(self, channels: int, channels_below: int, stride: Int3) -> None:
        super().__init__()
        between = max(1, channels // 2)
        self.stride = stride
        self.of_skip = nn.Conv3d(channels, between, stride, stride, bias=False)
        self.of_features = nn.Conv3d(channels_below, between, 1)
        self.weight = nn.Conv3d(between, 1, 1)

    def open(self) -> None:
        """Set the weights so that everything passes; to be called after others were drawn."""
        nn.init.normal_(self.weight.weight, std=0.01)
        nn.init.constant_(self.weight.bias, OPEN)  # type: ignore[arg-type]  # there is a bias

    def forward(self, skip: Tensor, features: Tensor) -> Tensor:
        seen = self.of_skip(filled_up(skip, self.stride)) + self.of_features(features)
        passed = torch.sigmoid(self.weight(torch.relu_(seen)))
        factor = tuple(float(step) for step in self.stride)
        return skip * crop(functional.interpolate(passed, scale_factor=factor, mode="trilinear"), skip)


def filled_up(features: Tensor, stride: Int3) -> Tensor:
    """Return features with zeros at the far end of each axis, up to the next multiple of the stride."""
    missing = [-n % step for n, step in zip(features.shape[2:], stride, strict=True)]
    if not any(missing):
        return features
    x, y, z = missing
    return functional.pad(features, (0, z, 0, y, 0, x))
