"""Gradient checkpointing of MONAI's DynUNet, convolution by convolution where most memory is held.

Its blocks raise what comes from below, put it beside the skip, and convolve twice. At full resolution, to run such a
block again as a whole needs nearly as much at once as to keep it. The classes here are mixed with MONAI's own and do
what those do in two methods, each a segment; MONAI need not be imported for that.
"""

import torch
from torch import Tensor, nn

from pipeline.nets.segment import Mode, Segment


class HalvedBlock(nn.Module):
    """A UnetBasicBlock whose two convolutions can be run again one by one."""

    conv1: nn.Module
    conv2: nn.Module
    norm1: nn.Module
    norm2: nn.Module
    lrelu: nn.Module

    def forward(self, inp: Tensor) -> Tensor:
        return self.second(self.first(inp))

    def first(self, features: Tensor) -> Tensor:
        """Run the first convolution, its norm and its activation."""
        return self.lrelu(self.norm1(self.conv1(features)))

    def second(self, features: Tensor) -> Tensor:
        """Run the second convolution, its norm and its activation."""
        return self.lrelu(self.norm2(self.conv2(features)))


class HalvedUpBlock(nn.Module):
    """A UnetUpBlock that joins again together with the first of its convolutions."""

    transp_conv: nn.Module
    conv_block: HalvedBlock

    def forward(self, inp: Tensor, skip: Tensor) -> Tensor:
        return self.conv_block.second(self.joined(inp, skip))

    def joined(self, inp: Tensor, skip: Tensor) -> Tensor:
        """Raise what comes from below, put it beside the skip and convolve; no name keeps what is large."""
        return self.conv_block.first(torch.cat((self.transp_conv(inp), skip), dim=1))


HALVED: dict[str, type[nn.Module]] = {"UnetBasicBlock": HalvedBlock, "UnetUpBlock": HalvedUpBlock}


def is_dynunet(net: nn.Module) -> bool:
    """True for MONAI's DynUNet."""
    return type(net).__name__ == "DynUNet" and type(net).__module__.startswith("monai.")


def segments(net: nn.Module, mode: Mode) -> list[Segment]:
    """Give the network's blocks their halved classes, and return what of them runs again in a mode.

    blocks: whole blocks on the way down, halves on the way up. deep: within each block its halves.
    """
    for part in net.modules():
        kind = type(part)
        if kind.__name__ in HALVED:
            part.__class__ = type(f"Halved{kind.__name__}", (HALVED[kind.__name__], kind), {})
    ups = list(dict.fromkeys(part for part in net.modules() if isinstance(part, HalvedUpBlock)))
    blocks = [part for part in net.modules() if is_block(part) and all(part is not up.conv_block for up in ups)]
    found = [Segment(up, "joined") for up in ups] + [Segment(up.conv_block, "second") for up in ups]
    found += [Segment(block) for block in blocks]
    if mode == "deep":
        halved = [block for block in blocks if isinstance(block, HalvedBlock)]
        found += [Segment(block, half) for block in halved for half in ("first", "second")]
        found += [Segment(up) for up in ups]
    return found


def is_block(part: nn.Module) -> bool:
    """True for a block of two convolutions; a residual one, with its shortcut, stays whole."""
    return isinstance(part, HalvedBlock) or type(part).__name__ == "UnetResBlock"
