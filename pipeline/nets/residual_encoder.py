"""The first stages of a ResNet (K. He et al., CVPR 2016) in three dimensions: the convolution branch of TransFuse."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.nets.relu_block import ReluBlock, normed

STEM_KERNEL = 7


class ResidualEncoder(nn.Module):
    """A 7x7x7 stem and residual stages, each of which but the first halves the resolution.

    channels, blocks: of each stage. stem_stride: resolution of the input over that of the first stage, 4 (the
    convolution strides and a pooling follows) or 2 (no pooling). dropout: of whole channels of what a stage gives.
    """

    def __init__(
        self, channels_in: int, channels: Sequence[int], blocks: Sequence[int], stem_stride: int, dropout: float
    ) -> None:
        super().__init__()
        pooling: list[nn.Module] = [nn.MaxPool3d(3, 2, padding=1)] if stem_stride == 4 else []
        self.stem = nn.Sequential(ReluBlock(channels_in, channels[0], STEM_KERNEL, stride=2), *pooling)
        self.stages = nn.ModuleList([resnet_stage(channels[0], channels[0], blocks[0], 1)])
        for (before, here), count in zip(pairwise(channels), blocks[1:], strict=True):
            self.stages.append(resnet_stage(before, here, count, 2))
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Float (B, channels_in, x, y, z) to the features of every stage, the finest first."""
        features = self.stem(image)
        found = []
        for stage in self.stages:
            features = self.dropout(stage(features))
            found.append(features)
        return found


def resnet_stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    """Return residual blocks, of which the first strides."""
    first = ResNetBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(ResNetBlock(channels_out, channels_out) for _ in range(blocks - 1)))


class ResNetBlock(nn.Module):
    """ReLU(two convolutions with norms + the input), which a convolution brings to the same shape where it must.

    projected: whether the input is always convolved, as in TransFuse's double convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, projected: bool = False) -> None:
        super().__init__()
        self.first = ReluBlock(channels_in, channels_out, stride=stride)
        self.second = normed(channels_out, channels_out)
        same = stride == 1 and channels_in == channels_out and not projected
        self.skip = nn.Identity() if same else normed(channels_in, channels_out, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Float (B, channels_in, x, y, z) to (B, channels_out, x / stride, ...)."""
        return torch.relu_(self.second(self.first(features)) + self.skip(features))
