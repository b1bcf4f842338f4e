"""Gradient checkpointing: keep only the inputs of blocks, and run each block again in the backward pass."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from pipeline.errors import UserError

WEIGHTED = (nn.Conv3d, nn.ConvTranspose3d, nn.Linear)
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # _NormBase: batch and instance norms


def apply(module: Any, mode: str) -> None:
    """Change `module` in place so that in training its blocks are recomputed: mode "blocks"; "none" does nothing.

    The blocks are those that `module.recomputed()` returns, where it has that method, else the innermost modules that
    hold a weighted layer and a norm. Parameters, names in the state dict, outputs, gradients and running statistics
    stay what they were, bit by bit; in eval mode and without gradients nothing is recomputed.

    Raises UserError where there is no such block.
    """
    if mode == "none":
        return
    blocks = module.recomputed() if hasattr(module, "recomputed") else innermost_blocks(module)
    if not blocks:
        raise UserError(
            f"net.checkpoint: {type(module).__name__} has no module with a convolution and a norm to recompute; "
            "set net.checkpoint=none."
        )
    for block in dict.fromkeys(blocks):  # a module may be reached by two names
        kind = type(block)
        block.__class__ = type(f"Recomputed{kind.__name__}", (Recomputed, kind), {})


class Recomputed(nn.Module):
    """What a block's class is mixed with; a class and not a wrapped method, so that copies of the net stay whole."""

    def forward(self, *inputs: Any, **options: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*inputs, **options)
        contexts = (nullcontext(), KeptBuffers(self))  # of the first run and of the second
        return checkpoint(super().forward, *inputs, use_reentrant=False, context_fn=lambda: contexts, **options)


class KeptBuffers:
    """Lets a run update copies of a block's buffers: running statistics have had this batch in the first run.

    A class, because a graph that is retained is run again in every backward pass.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __enter__(self) -> None:
        self.kept = [(part, dict(part._buffers)) for part in self.block.modules() if part._buffers]
        for part, buffers in self.kept:
            part._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})

    def __exit__(self, *error: object) -> None:
        for part, buffers in self.kept:
            part._buffers.update(buffers)


def innermost_blocks(module: nn.Module) -> list[nn.Module]:
    """Return the modules that hold a weighted layer and a norm, and of which no child holds both."""
    inner = [block for child in module.children() for block in innermost_blocks(child)]
    if inner:
        return inner
    parts = list(module.modules())
    holds_both = any(isinstance(p, WEIGHTED) for p in parts) and any(isinstance(p, NORMS) for p in parts)
    return [module] if holds_both else []
