"""BiFusion of TransFuse: features of convolutions and of a transformer joined by gates and a product.

Method: Y. Zhang, H. Liu and Q. Hu, TransFuse: Fusing transformers and CNNs for medical image segmentation, MICCAI
2021, here in three dimensions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.nets.convolution import Convolution
from pipeline.nets.norms import InstanceNorm
from pipeline.nets.relu_block import ReluBlock, normed
from pipeline.nets.residual_encoder import ResNetBlock

SPATIAL_KERNEL = 7


class BiFusion(nn.Module):
    """Residual([g', t', b]) of the convolutions' features g and the transformer's t at one resolution.

    g' = g under a gate by place, t' = t under a gate by channel, b = ReLU(norm(conv3(norm(Wg g) * norm(Wt t)))), the
    bilinear term.

    channels: of g and of the result. channels_transformer: of t. reduction: of the channel gate's hidden layer.
    dropout: of whole channels of the result.
    """

    def __init__(self, channels: int, channels_transformer: int, reduction: int, dropout: float) -> None:
        super().__init__()
        self.channel_gate = ChannelGate(channels_transformer, reduction)
        self.spatial_gate = SpatialGate()
        self.of_convolutions = normed(channels, channels, 1)
        self.of_transformer = normed(channels_transformer, channels, 1)
        self.bilinear = ReluBlock(channels, channels)
        self.residual = Bottleneck(2 * channels + channels_transformer, channels)
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, convolved: Tensor, attended: Tensor) -> Tensor:
        """Float (B, channels, x, y, z) and (B, channels_transformer, x, y, z), to (B, channels, x, y, z)."""
        product = self.bilinear(self.of_convolutions(convolved) * self.of_transformer(attended))
        parts = (self.spatial_gate(convolved), self.channel_gate(attended), product)
        return self.dropout(self.residual(torch.cat(parts, dim=1)))


class ChannelGate(nn.Module):
    """t * sigmoid(W2 ReLU(W1 mean over space of t)): squeeze and excitation (J. Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Float (B, C, x, y, z) to the same shape."""
        return features * self.weights(features)

    def weights(self, features: Tensor) -> Tensor:
        """Return float (B, C, 1, 1, 1) in (0, 1)."""
        return torch.sigmoid(self.layers(features.mean(dim=(2, 3, 4))))[:, :, None, None, None]


class SpatialGate(nn.Module):
    """g * sigmoid(norm(conv7([max, mean over channels of g]))) (S. Woo et al., CBAM, ECCV 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = normed(2, 1, SPATIAL_KERNEL)

    def forward(self, features: Tensor) -> Tensor:
        """Float (B, C, x, y, z) to the same shape."""
        return features * self.weights(features)

    def weights(self, features: Tensor) -> Tensor:
        """Return float (B, 1, x, y, z) in (0, 1)."""
        pooled = torch.cat((features.amax(dim=1, keepdim=True), features.mean(dim=1, keepdim=True)), dim=1)
        return torch.sigmoid(self.layers(pooled))


class SkipGate(nn.Module):
    """s * psi with psi = sigmoid(norm(w ReLU(norm(Wu u) + norm(Ws s)))) (O. Oktay et al., Attention U-Net, 2018)."""

    def __init__(self, channels_deep: int, channels_skip: int) -> None:
        super().__init__()
        self.of_deep = normed(channels_deep, channels_skip, 1)
        self.of_skip = normed(channels_skip, channels_skip, 1)
        self.layers = normed(channels_skip, 1, 1)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """Float skip (B, channels_skip, x, y, z) and deep (B, channels_deep, x, y, z), to the skip's shape."""
        return skip * self.weights(skip, deep)

    def weights(self, skip: Tensor, deep: Tensor) -> Tensor:
        """Return psi, float (B, 1, x, y, z) in (0, 1)."""
        return torch.sigmoid(self.layers(torch.relu_(self.of_deep(deep) + self.of_skip(skip))))


class Bottleneck(nn.Module):
    """Norm, ReLU and a convolution, three times with half the channels in between, added to a 1x1x1 convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half = max(1, channels_out // 2)
        self.layers = nn.Sequential(
            InstanceNorm(channels_in),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels_in, half, 1, bias=False),
            InstanceNorm(half),
            nn.ReLU(inplace=True),
            Convolution(half, half, 3, padding=1, bias=False),
            InstanceNorm(half),
            nn.ReLU(inplace=True),
            nn.Conv3d(half, channels_out, 1),
        )
        self.skip = nn.Conv3d(channels_in, channels_out, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Float (B, channels_in, x, y, z) to (B, channels_out, x, y, z)."""
        return self.layers(features) + self.skip(features)


class GatedUp(nn.Module):
    """Twice the resolution, joined with a skip under a gate, then a residual double convolution."""

    def __init__(self, channels_deep: int, channels_skip: int) -> None:
        super().__init__()
        self.gate = SkipGate(channels_deep, channels_skip)
        self.convolutions = ResNetBlock(channels_deep + channels_skip, channels_skip, projected=True)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Float deep (B, channels_deep, x, y, z) and skip (B, channels_skip, 2x, 2y, 2z), to the skip's shape."""
        upsampled = upsample(deep, 2)
        return self.convolutions(torch.cat((self.gate(skip, upsampled), upsampled), dim=1))


class Up(nn.Module):
    """Twice the resolution, then a residual double convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolutions = ResNetBlock(channels_in, channels_out, projected=True)

    def forward(self, features: Tensor) -> Tensor:
        """Float (B, channels_in, x, y, z) to (B, channels_out, 2x, 2y, 2z)."""
        return self.convolutions(upsample(features, 2))


def upsample(features: Tensor, factor: int) -> Tensor:
    """Interpolate linearly between the centres of voxels, as strides place them; aligned corners would shift them."""
    return functional.interpolate(features, scale_factor=float(factor), mode="trilinear", align_corners=False)
