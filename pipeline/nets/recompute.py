"""Gradient checkpointing: keep only the inputs of segments, and run each segment again in the backward pass.

Method: T. Chen et al., Training deep nets with sublinear memory cost, 2016.
"""

import ctypes
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from pipeline.errors import UserError
from pipeline.nets import dynunet_segments
from pipeline.nets.segment import Mode, Segment

WEIGHTED = (nn.Conv3d, nn.ConvTranspose3d, nn.Linear)
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # _NormBase: batch and instance norms
CONTAINERS = (nn.ModuleList, nn.ModuleDict)  # they are never called
M_MMAP_THRESHOLD = -3  # in glibc's malloc.h
RETURNED_BYTES = 2**20


def apply(module: Any, mode: str) -> None:
    """Change `module` in place so that in training it computes segments of itself again instead of keeping them.

    mode: "blocks" runs each block twice. "deep" runs larger parts again and, within them, each block once more: the
        least memory, and the most time; freed memory goes back to the system, in all of the process. "none", and
        "auto", which training has still to decide, change nothing.

    The segments are those that `module.recomputed(mode)` returns, where it has that method, else by the rules below.
    Parameters, names in the state dict, outputs, gradients and running statistics stay what they were, bit by bit in
    float32 on a CPU; in eval mode and without gradients nothing is recomputed. `torch.compile` may come after it, not
    before.

    Raises UserError where there is nothing to recompute, and for a module that is compiled already.
    """
    if mode not in ("blocks", "deep"):
        return
    if hasattr(module, "_orig_mod"):  # what torch.compile returns
        raise UserError(
            f"net.checkpoint: {mode} was asked of a network that torch.compile has compiled, which keeps what it was "
            "compiled with; compile the network after it, or set net.checkpoint=none."
        )
    if mode == "deep":
        return_freed_memory()
    methods: dict[nn.Module, set[str]] = {}
    for part, method in segments_of(module, "deep" if mode == "deep" else "blocks"):
        methods.setdefault(part, set()).add(method)
    for part, names in methods.items():
        kind = type(part)
        # a class, and not methods put on the module, so that copies of the network stay whole
        again = {name: recomputing(getattr(kind, name)) for name in names}
        part.__class__ = type(f"Recomputed{kind.__name__}", (kind,), again)


def return_freed_memory() -> None:
    """Let the C library give every block of 1 MiB or more back to the system as soon as it is freed, where it can.

    glibc raises its own threshold to 32 MiB as blocks are freed, and keeps what is smaller. At 1 x 80-cube that was
    nearly half of what UNet3d took (16 to 96 channels): 635 MiB in deep, 347 with this. New pages cost a third
    more time (3.8 and 5.0 s a step), which is why blocks and none go without.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, RETURNED_BYTES)


def segments_of(module: Any, mode: Mode) -> list[Segment]:
    """Return what is run again: as the network says, by DynUNet's own rule, or else its innermost blocks.

    deep: also the smallest modules that hold two blocks or more.
    """
    if hasattr(module, "recomputed"):
        return module.recomputed(mode)
    if dynunet_segments.is_dynunet(module):
        return dynunet_segments.segments(module, mode)
    blocks = innermost_blocks(module)
    if not blocks:
        raise UserError(
            f"net.checkpoint: {type(module).__name__} has no module with a convolution and a norm to recompute; "
            "set net.checkpoint=none."
        )
    if mode == "blocks":
        return [Segment(block) for block in blocks]
    groups = [group for group in smallest_groups(module, set(blocks)) if group is not module]
    if not any(len(set(group.modules()) & set(blocks)) < len(set(blocks)) for group in groups):
        raise UserError(
            f"net.checkpoint: deep needs modules that hold some blocks of {type(module).__name__} and not all of them, "
            "and there is none; set net.checkpoint=blocks."
        )
    return [Segment(part) for part in (*blocks, *groups)]


def recomputing(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that does what `plain` does, and does it again in the backward pass."""

    def run(self: nn.Module, *inputs: Any, **options: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return plain(self, *inputs, **options)
        again = partial(plain, self, **options)
        if torch.compiler.is_compiling():  # a compiled graph writes its buffers once, and takes no contexts
            return checkpoint(again, *inputs, use_reentrant=False)
        contexts = (nullcontext(), KeptBuffers(self))  # of the first run and of the second
        return checkpoint(again, *inputs, use_reentrant=False, context_fn=lambda: contexts)

    return run


class KeptBuffers:
    """Lets a run update copies of a module's buffers: running statistics have had this batch in the first run.

    A class, because a graph that is retained is run again in every backward pass.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.kept = [(part, dict(part._buffers)) for part in self.module.modules() if part._buffers]
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


def smallest_groups(module: nn.Module, blocks: set[nn.Module]) -> list[nn.Module]:
    """Return the modules that are called and hold two blocks or more, and of which no child is such a module."""
    inner = [group for child in module.children() for group in smallest_groups(child, blocks)]
    if inner or isinstance(module, CONTAINERS):
        return inner
    return [module] if len(blocks.intersection(module.modules())) > 1 else []
