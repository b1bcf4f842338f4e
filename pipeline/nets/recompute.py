"""Gradient checkpointing: keep only the inputs of blocks, and run each block again in the backward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
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
    for block in blocks:
        kind = type(block)
        block.__class__ = type(f"Recomputed{kind.__name__}", (Recomputed, kind), {})


class Recomputed(nn.Module):
    """What a block's class is mixed with; a class and not a wrapped method, so that copies of the net stay whole."""

    def forward(self, *inputs: Any, **options: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*inputs, **options)
        tensors = [given for given in inputs if isinstance(given, Tensor)]
        versions = [tensor._version for tensor in tensors]
        return checkpoint(
            super().forward,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), second_run(self, tensors, versions)),
            **options,
        )


@contextmanager
def second_run(block: nn.Module, tensors: Sequence[Tensor], versions: Sequence[int]) -> Iterator[None]:
    """Let the second run update copies of the buffers: running statistics have had this batch in the first.

    Raises UserError where an input is no longer what the first run was given.
    """
    if [tensor._version for tensor in tensors] != list(versions):
        raise UserError(
            f"net.checkpoint: the input of {type(block).__name__} was changed in place after the block was run, so it "
            "cannot be recomputed; set net.checkpoint=none."
        )
    first = [(part, dict(part._buffers)) for part in block.modules() if part._buffers]
    try:
        for part, buffers in first:
            part._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
        yield
    finally:
        for part, buffers in first:
            part._buffers.update(buffers)


def innermost_blocks(module: nn.Module) -> list[nn.Module]:
    """Return the modules that hold a weighted layer and a norm, and of which no child holds both."""
    inner = [block for child in module.children() for block in innermost_blocks(child)]
    if inner:
        return inner
    parts = list(module.modules())
    holds_both = any(isinstance(p, WEIGHTED) for p in parts) and any(isinstance(p, NORMS) for p in parts)
    return [module] if holds_both else []
