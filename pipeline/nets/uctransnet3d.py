"""UCTransNet in three dimensions: a U-Net whose skips pass through a channel transformer and through gates."""

from math import lcm

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.nets.channel_transformer import ChannelTransformer, ChannelTransformerLayer
from pipeline.nets.option_checks import check_count, check_probability
from pipeline.nets.relu_block import LastConvolution, ReluBlock, initialise
from pipeline.nets.segment import Mode, Segment
from pipeline.volume.grid import Int3

SKIPS = 4


class UCTransNet3d(nn.Module):
    """UCTransNet (H. Wang et al., AAAI 2022) with instance norms, ending in a linear 1x1x1 convolution.

    Float (B, channels_in, x, y, z) -> raw logits (B, channels_out, x, y, z), of any sign and size.

    width: features at full resolution; 2, 4, 8 and 8 times as many in the stages below. 16 suits a CPU, 32 a GPU.
    token_vox: side of the cube of voxels that is one token of the channel transformer: a multiple of 8, as the
        coarsest skip, at an eighth of the resolution, needs a voxel for each.
    heads, layers: of the channel transformer. Every head has the full width.
    dropout: of embeddings, attention maps and what they answer.

    `multiple_vox` gives whole tokens and whole voxels in the deepest stage, `smallest_vox` two of each along an axis:
    an instance norm over one is refused.

    Raises UserError for arguments that make no network.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        width: int = 16,
        token_vox: int = 16,
        heads: int = 4,
        layers: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        for key, count in {"width": width, "heads": heads, "layers": layers}.items():
            check_count(key, count)
        check_count("token_vox", token_vox, multiple_of=2 ** (SKIPS - 1))
        check_probability("dropout", dropout)
        step, low = lcm(token_vox, 2**SKIPS), 2 * max(token_vox, 2**SKIPS)
        self.multiple_vox: Int3 = (step, step, step)
        self.smallest_vox: Int3 = (low, low, low)
        widths = [width << level for level in range(SKIPS)]
        self.encoder = nn.ModuleList([ReluBlock(channels_in, width)])
        self.encoder.extend(Down(above, here) for above, here in zip(widths, [*widths[1:], widths[-1]], strict=True))
        self.transformer = ChannelTransformer(widths, token_vox, heads, layers, dropout)
        self.decoder = nn.ModuleList(Up(here, max(width, here // 2)) for here in reversed(widths))
        self.head = LastConvolution(width, channels_out)
        self.apply(initialise)

    def forward(self, image: Tensor) -> Tensor:
        skips = []
        features = image
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        features = skips.pop()
        skips = self.transformer(skips)
        for stage in self.decoder:
            features = stage(features, skips.pop())
        return self.head(features)

    def recomputed(self, mode: Mode) -> list[Segment]:
        """Return what is run again in the backward pass where memory is to be saved.

        Blocks are small, as most memory is held at full resolution: to run the whole last stage again needs nearly as
        much at once as to keep it. deep: stages as well, and within them these blocks.
        """
        kinds = (ReluBlock, ChannelCrossAttention, ChannelTransformerLayer)
        stages = (Down, Up) if mode == "deep" else ()
        return [Segment(part) for part in self.modules() if isinstance(part, (*kinds, *stages))]


class Down(nn.Sequential):
    """Half the resolution, then two convolutions."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(nn.MaxPool3d(2), ReluBlock(channels_in, channels_out), ReluBlock(channels_out, channels_out))


class Up(nn.Module):
    """Joins what comes from below with its gated skip, which has as many channels, and convolves twice."""

    def __init__(self, channels: int, channels_out: int) -> None:
        super().__init__()
        self.attention = ChannelCrossAttention(channels)
        self.convolutions = nn.Sequential(ReluBlock(2 * channels, channels_out), ReluBlock(channels_out, channels_out))

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Float (B, channels, x, y, z) and (B, channels, 2x, 2y, 2z), to (B, channels_out, 2x, 2y, 2z)."""
        upsampled = functional.interpolate(below, scale_factor=2.0, mode="nearest")
        return self.convolutions(torch.cat((self.attention(skip, below), upsampled), dim=1))


class ChannelCrossAttention(nn.Module):
    """Weighs the channels of a skip by what the skip and the decoder hold on average.

    ReLU(s x) with s = sigmoid((Wx mean(x) + Wg mean(g)) / 2), x the skip and g the features from below.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_skip = nn.Linear(channels, channels)
        self.of_below = nn.Linear(channels, channels)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Float skip (B, C, x, y, z) and below (B, C, any size), to the weighed skip."""
        return torch.relu_(self.weights(skip, below)[:, :, None, None, None] * skip)

    def weights(self, skip: Tensor, below: Tensor) -> Tensor:
        """Return s, float (B, C) in (0, 1). Nearest upsampling does not change a mean: below needs none."""
        scores = self.of_skip(skip.mean(dim=(2, 3, 4))) + self.of_below(below.mean(dim=(2, 3, 4)))
        return torch.sigmoid(scores / 2)
