"""The network as `torch.compile` makes it, for training steps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pipeline.errors import UserError

COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch")  # the modules whose errors are about compiling


def compiled(net: nn.Module) -> nn.Module:
    """Return the network in a compiled form over the same weights; the network itself, its state-dict keys included,
    stays as it is, and predicts as it is: windows have other shapes than patches.

    The first step compiles, within tens of seconds. Gradient checkpointing is put on before.
    """
    wrapped: nn.Module = torch.compile(net)  # type: ignore[assignment]
    return wrapped


@contextmanager
def compiling_told() -> Iterator[None]:
    """Turn an error of the compiler into a UserError."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(COMPILERS):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"train.compile=true: torch.compile could not compile this network ({reason}); a compiler (gcc or clang, "
            "on a GPU Triton too) and a network that it understands were expected: set train.compile=false."
        ) from error
