"""Running a network on noise, and noting which module each recorded operation is the output of."""

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.device import is_out_of_memory
from pipeline.errors import UserError
from pipeline.nets.constructor import RAISED, in_short
from pipeline.nets.ending import VIEWS, operation
from pipeline.volume.grid import Int3

SMALL_VOX = 32


@dataclass(eq=False)
class Trace:
    """What a run of a network gave.

    size_vox: of the input. outputs: as the network returned them, one or several. places: the name of the innermost
    module that each autograd node is the output of, seen through views. calls: how often each module was called.
    """

    size_vox: Int3 = (0, 0, 0)
    outputs: list[Any] = field(default_factory=list)
    places: dict[Any, str] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def note(self, name: str, entered: set[Any], output: Any) -> None:
        """Remember which module a node is the output of; of nested ones the innermost that did not only pass it on."""
        self.calls[name] += 1
        for tensor in tensors_of(output):
            node = tensor.grad_fn
            while node is not None and node not in entered:
                self.places.setdefault(node, name)
                node = node.next_functions[0][0] if operation(node) in VIEWS else None


def trace(network: nn.Module, sizes: Sequence[Int3], channels_in: int) -> Trace:
    """Run the network, in the mode that it is in, at the first size that it takes: some are made for one size only.

    Running statistics of its norms change; torch's generators do not. Raises UserError where no size can be run, and
    what torch raises where memory does not suffice.
    """
    for size in dict.fromkeys(sizes):
        try:
            return run(network, size, channels_in)
        except UserError:
            raise
        except RAISED as error:
            if is_out_of_memory(error):
                raise
            refusal: BaseException = error
    raise UserError(
        f"net.name: {kind_of(network)} cannot be run on a patch of {list(size)} voxels in "
        f"{'training' if network.training else 'eval'} mode: {in_short(refusal)}."
    ) from refusal


def run(network: nn.Module, size_vox: Int3, channels_in: int) -> Trace:
    """Run the network with gradients on noise: two samples in training mode, one in eval mode."""
    traced = Trace(size_vox)
    entered: list[set[Any]] = []  # the nodes that each module in hand was given; noted before it can work in place

    def enter(part: nn.Module, inputs: Any) -> None:
        entered.append({tensor.grad_fn for tensor in tensors_of(inputs)})

    handles = [part.register_forward_pre_hook(enter) for part in network.modules() if part is not network]
    handles += [
        part.register_forward_hook(lambda part, _, output, name=name: traced.note(name, entered.pop(), output))
        for name, part in network.named_modules()
        if part is not network
    ]
    image = noise(network, 2 if network.training else 1, channels_in, size_vox)
    try:
        with own_numbers(image), torch.enable_grad():
            output = network(image)
    finally:
        for handle in handles:
            handle.remove()
    traced.outputs = list(output) if isinstance(output, list | tuple) else [output]
    return traced


def own_numbers(image: Tensor) -> AbstractContextManager[None]:
    """Return a context in which what is drawn beside the image leaves torch's generators as they were."""
    gpus = [image.device] if image.is_cuda else []  # not all of the machine, which is what fork_rng takes by itself
    return torch.random.fork_rng(gpus)  # type: ignore[no-any-return]


def noise(network: nn.Module, batch: int, channels_in: int, size_vox: Int3) -> Tensor:
    """Return an input of random numbers (batch, channels_in, x, y, z), of the weights' type and on their device."""
    weight = next(network.parameters(), torch.zeros(()))
    image = torch.randn((batch, channels_in, *size_vox), generator=torch.Generator().manual_seed(0))
    return image.to(weight.device, weight.dtype)


def small_sizes(module: Any, patch_vox: Int3) -> tuple[Int3, Int3]:
    """Return the sizes to run at: the smallest legal one from 32 voxels up, or from the patch if smaller; the patch."""
    x, y, z = (
        max(ceil(min(n, SMALL_VOX) / step), ceil(low / step)) * step
        for n, low, step in zip(patch_vox, module.smallest_vox, module.multiple_vox, strict=True)
    )
    return (x, y, z), patch_vox


def tensors_of(given: Any) -> list[Tensor]:
    """Return a tensor, or those of a list or tuple, in a list."""
    parts = given if isinstance(given, list | tuple) else (given,)
    return [part for part in parts if isinstance(part, Tensor)]


def kind_of(part: nn.Module) -> str:
    """Return the name of a module's class, without what gradient checkpointing puts before it."""
    return type(part).__name__.removeprefix("Recomputed")
