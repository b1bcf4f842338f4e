"""The project's own U-Net: quick on a CPU, for patches of any size and spacing."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from pipeline.nets.axes import product_of
from pipeline.nets.blocks import BLOCKS, Block, ResidualBlock, Stage, initialise
from pipeline.nets.gate import AttentionGate
from pipeline.nets.norms import NORMS
from pipeline.nets.segment import Mode, Segment
from pipeline.nets.unet_options import (
    check_choice,
    check_counts,
    check_supervision,
    check_switch,
    stage_dropout,
    stage_kernels,
    stage_strides,
)
from pipeline.nets.upsample import UPSAMPLINGS, Upsampling, crop
from pipeline.volume.grid import Int3


class UNet3d(nn.Module):
    """U-Net (Ronneberger 2015; Çiçek 2016) of strided convolutions, ending in a linear 1x1x1 convolution.

    Float (B, channels_in, x, y, z) -> raw logits (B, channels_out, x, y, z), of any sign and size; with deep
    supervision and in training mode a list of them, the prediction first, each at its own resolution.

    channels: features of each stage, the finest first; as many stages as numbers.
    strides: what each stage shrinks its input by, a number or one for each axis; the first is 1. Default: 1, 2, 2, ...
    kernels: of the convolutions in each stage, on the way down and up, odd, a number or one for each axis. Default: 3.
        Thick slices want [3, 3, 1] until the stage in which strides have made the spacing alike (Isensee 2021).
    convolutions, decoder_convolutions: convolutions in a stage on the way down and up.
    block: "plain", or "residual" (He 2016), with a shortcut around every two convolutions.
    norm: "instance" or "group" (groups of 8 where the channels divide), which do not depend on the batch, or "batch",
        which refuses to train on a batch of 1.
    upsampling: "nearest" or "linear" interpolation after a 1x1x1 convolution, or a "transposed" convolution. The
        1x1x1 convolution comes first as the two commute, and before the interpolation it costs an eighth.
    attention_gates: weigh every skip, voxel by voxel, by what the stage below has seen (Oktay 2018).
    deep_supervision: how many outputs of coarser decoder stages are trained beside the prediction (Lee 2015), at most
        two less than there are stages; each is linear, ceil(n / stride) voxels along an axis.
    dropout: the probability with which a channel that leaves a stage is 0 in training, a number or one for each stage.

    Any size from `smallest_vox` up works: a stage of stride s turns n voxels into ceil(n / s), so what comes up from
    below is never smaller than its skip and is cropped to it. `multiple_vox` is therefore 1 along every axis.
    `smallest_vox` leaves two voxels along every axis in the deepest stage: an instance norm over one voxel is 0.

    Raises UserError for arguments that make no network.
    """

    multiple_vox: Int3 = (1, 1, 1)

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        channels: Sequence[int] = (32, 64, 128, 256, 320),
        strides: Sequence[int | Sequence[int]] | None = None,
        convolutions: int = 2,
        decoder_convolutions: int = 2,
        norm: str = "instance",
        upsampling: str = "nearest",
        kernels: Sequence[int | Sequence[int]] | None = None,
        block: str = "plain",
        attention_gates: bool = False,
        deep_supervision: int = 0,
        dropout: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__()
        check_counts(channels, convolutions, decoder_convolutions)
        check_choice("norm", norm, NORMS)
        check_choice("upsampling", upsampling, UPSAMPLINGS)
        check_choice("block", block, BLOCKS)
        check_switch("attention_gates", attention_gates)
        check_supervision(deep_supervision, len(channels))
        steps = stage_strides(strides, len(channels))
        sizes = stage_kernels(kernels, steps)
        shares = stage_dropout(dropout, len(channels))
        self.smallest_vox: Int3 = smallest_size(steps)
        stage = partial(Stage, norm=norm, block=block)
        self.encoder = nn.ModuleList()
        for level, here in enumerate(channels):
            before = channels[level - 1] if level else channels_in
            self.encoder.append(
                stage(before, here, convolutions, stride=steps[level], kernel=sizes[level], dropout=shares[level])
            )
        self.upsamplings = nn.ModuleList()
        self.gates = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(1, len(channels))):
            below, here = channels[level], channels[level - 1]
            self.upsamplings.append(Upsampling(below, here, steps[level], upsampling))
            if attention_gates:
                self.gates.append(AttentionGate(here, below, steps[level]))
            self.decoder.append(
                stage(2 * here, here, decoder_convolutions, kernel=sizes[level - 1], dropout=shares[level - 1])
            )
        self.head = nn.Conv3d(channels[0], channels_out, 1)
        self.coarser_heads = nn.ModuleList(nn.Conv3d(c, channels_out, 1) for c in channels[1 : 1 + deep_supervision])
        self._draw_weights()

    def _draw_weights(self) -> None:
        self.apply(initialise)
        for part in self.modules():
            if isinstance(part, AttentionGate):
                part.open()
        for head in (self.head, *self.coarser_heads):
            nn.init.normal_(head.weight, std=0.01)  # first logits near 0: the first loss is near ln(channels_out)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        skips = []
        features = image
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        skips.pop()
        coarser: list[Tensor] = []
        for number in range(len(self.decoder)):
            features = self.level(number, skips.pop(), features)
            finer = len(self.decoder) - 1 - number  # stages that are still to come
            if self.training and 1 <= finer <= len(self.coarser_heads):
                coarser.insert(0, self.coarser_heads[finer - 1](features))
        logits = self.head(features)
        return [logits, *coarser] if coarser else logits

    def level(self, number: int, skip: Tensor, below: Tensor) -> Tensor:
        """Run a stage of the decoder on its skip and the features from the stage below."""
        return self.refined(number, self.joined(number, skip, below))

    def joined(self, number: int, skip: Tensor, below: Tensor) -> Tensor:
        """Bring both to one resolution, and run the stage's first convolutions on them side by side.

        No name keeps what was raised, or the two side by side: they are the largest features that there are.
        """
        return self.decoder[number][0](self.side_by_side(number, skip, below))  # type: ignore[index]

    def side_by_side(self, number: int, skip: Tensor, below: Tensor) -> Tensor:
        """Return the skip, weighed where there are gates, and what came from below, raised, in one tensor."""
        raised = crop(self.upsamplings[number](below), skip)
        if self.gates:
            skip = self.gates[number](skip, below)
        return torch.cat((skip, raised), dim=1)

    def refined(self, number: int, features: Tensor) -> Tensor:
        """Run what a stage of the decoder has behind its first convolutions."""
        for part in list(self.decoder[number].children())[1:]:
            features = part(features)
        return features

    def recomputed(self, mode: Mode) -> list[Segment]:
        """Return what is run again in the backward pass where memory is to be saved.

        The finest stage of the decoder decides: what goes in is twice as large as what comes out, so that each of its
        convolutions runs again by itself, the first one together with joining.
        """
        whole = [Segment(stage) for stage in self.encoder] + [Segment(self, "joined"), Segment(self, "refined")]
        if mode == "blocks":
            return whole
        parts = [
            Segment(part)
            for stage in self.encoder
            for part in stage.children()
            if isinstance(part, Block | ResidualBlock)
        ]
        return [*whole, *parts, Segment(self, "level")]


def smallest_size(steps: Sequence[Int3]) -> Int3:
    """Return the size that leaves two voxels in the deepest stage along every axis that is shrunk."""
    x, y, z = product_of(steps)
    return x + 1, y + 1, z + 1
