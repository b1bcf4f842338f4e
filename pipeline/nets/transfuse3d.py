"""TransFuse in three dimensions: a convolution branch and a transformer branch side by side, joined by BiFusion."""

from collections.abc import Sequence

from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.nets.bifusion import BiFusion, GatedUp, Up, upsample
from pipeline.nets.option_checks import check_count, check_probability, check_three
from pipeline.nets.relu_block import LastConvolution, ReluBlock, initialise
from pipeline.nets.residual_encoder import ResidualEncoder
from pipeline.nets.segment import Mode, Segment
from pipeline.nets.vision_transformer import VisionTransformer
from pipeline.volume.grid import Int3

STEM_STRIDES = (2, 4)
REDUCTIONS = (1, 2, 4)  # of the channel gates, the finest first
FUSED_DROPOUT = 0.5  # of what is fused, over that of what enters: 0.1 and 0.2 in the publication


class TransFuse3d(nn.Module):
    """TransFuse (Y. Zhang et al., MICCAI 2021) with instance norms, all three heads ending in linear convolutions.

    Float (B, channels_in, x, y, z) -> raw logits, of any sign and size: in eval mode (B, channels_out, x, y, z), the
    joint prediction; in training mode a list of that, the transformer's own at 1 / stem_stride of the resolution, and
    that of the deepest fusion at a quarter of the latter's. The publication weighs their losses 0.5, 0.3 and 0.2.

    channels, blocks: features and residual blocks of the three convolution stages, the finest first.
    dim, depth, heads: features of a token, blocks and attention heads of the transformer.
    stem_stride: 4, or 2 for twice the resolution throughout, where the smallest structure has a radius under about four
        voxels; a token has a side of 4 x stem_stride voxels.
    dropout: of whole channels of the features that are fused; half as much of what comes out.

    `multiple_vox` gives whole tokens, `smallest_vox` two along an axis: an instance norm over one is refused.

    Raises UserError for arguments that make no network.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        channels: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (2, 2, 2),
        dim: int = 192,
        depth: int = 8,
        heads: int = 6,
        stem_stride: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_options(channels, blocks, dim, depth, heads, stem_stride, dropout)
        fine, middle, deep = channels
        step = 4 * stem_stride
        self.multiple_vox: Int3 = (step, step, step)
        self.smallest_vox: Int3 = (2 * step, 2 * step, 2 * step)
        self.stem_stride = stem_stride
        self.encoder = ResidualEncoder(channels_in, channels, blocks, stem_stride, dropout)
        self.transformer = VisionTransformer(channels_in, step, dim, depth, heads)
        self.transformer_ups = nn.ModuleList([Up(dim, middle), Up(middle, fine)])
        self.dropout = nn.Dropout3d(dropout)
        widths = zip(channels, (fine, middle, dim), REDUCTIONS, strict=True)
        self.fusions = nn.ModuleList(BiFusion(*width, FUSED_DROPOUT * dropout) for width in widths)
        self.joint_ups = nn.ModuleList([GatedUp(deep, middle), GatedUp(middle, fine)])
        self.joint_head = head(fine, channels_out)
        self.transformer_head = head(fine, channels_out)
        self.deep_head = nn.Sequential(ReluBlock(deep, fine, kernel=1), *head(fine, channels_out))
        self.apply(initialise)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        convolved = self.encoder(image)
        attended = [self.dropout(self.transformer(image))]
        for up in self.transformer_ups:
            attended.insert(0, self.dropout(up(attended[0])))
        levels = zip(self.fusions, convolved, attended, strict=True)
        fused = [fusion(of_convolutions, of_transformer) for fusion, of_convolutions, of_transformer in levels]
        deepest = joint = fused[-1]
        for up, skip in zip(self.joint_ups, reversed(fused[:-1]), strict=True):
            joint = up(joint, skip)
        prediction = upsample(self.joint_head(joint), self.stem_stride)
        if not self.training:
            return prediction
        return [prediction, self.transformer_head(attended[0]), self.deep_head(deepest)]

    def recomputed(self, mode: Mode) -> list[Segment]:
        """Return what is run again in the backward pass where memory is to be saved; deep: its blocks once more."""
        branches = [self.encoder.stem, *self.encoder.stages, *self.transformer.blocks]
        whole = [*branches, *self.transformer_ups, *self.fusions, *self.joint_ups]
        blocks = [part for part in self.modules() if isinstance(part, ReluBlock)] if mode == "deep" else []
        return [Segment(part) for part in (*whole, *blocks)]


def head(channels: int, channels_out: int) -> nn.Sequential:
    """Return a convolution with norm and ReLU and a linear one, to logits."""
    return nn.Sequential(ReluBlock(channels, channels), LastConvolution(channels, channels_out, kernel=3))


def check_options(
    channels: Sequence[int],
    blocks: Sequence[int],
    dim: int,
    depth: int,
    heads: int,
    stem_stride: int,
    dropout: float,
) -> None:
    """Refuse options that make no network."""
    check_three("channels", channels)
    check_three("blocks", blocks)
    check_count("depth", depth)
    check_count("heads", heads)
    check_count("dim", dim)
    if dim % heads:
        raise UserError(
            f"net.options.dim: {dim} is no multiple of net.options.heads, {heads}; expected one, such as {heads * 32}."
        )
    if stem_stride not in STEM_STRIDES:
        raise UserError(f"net.options.stem_stride: {stem_stride}; expected 4, or 2 for structures of few voxels.")
    check_probability("dropout", dropout)
