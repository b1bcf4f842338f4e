"""Taking final activations off a network that was published with them."""

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from pipeline.errors import UserError
from pipeline.nets.ending import NORM, Ending, ending_of, operation, users_of
from pipeline.nets.trace import Trace, small_sizes, tensors_of, trace
from pipeline.volume.grid import Int3

KEY = "net.strip_final_activation"
OTHER_WAY = "take it out of the code, or put a 1x1x1 convolution behind it"


def strip_final_activations(module: nn.Module, patch_vox: Int3, channels_in: int) -> list[str]:
    """Put nn.Identity in the place of every activation that an output ends in, in training or in eval mode.

    What comes to light behind one is taken off as well. Names of the other modules, and so of the weights, stay as they
    are. A copy is run to find them: the weights, running statistics and torch's generators stay as they were.

    Returns the modules in words, such as "end (Sigmoid)"; empty where every output ends in a linear layer. Raises
    UserError where an ending is no module of its own, is used inside the network as well, or is a norm, and where the
    network cannot be run.
    """
    network = copy.deepcopy(module)
    taken: list[str] = []
    while True:
        found = [
            name for mode in (True, False) for name in final_activations(network.train(mode), patch_vox, channels_in)
        ]
        if not found:
            return taken
        for name in dict.fromkeys(found):
            part = network.get_submodule(name)
            taken.append(f"{name} ({type(part).__name__})")
            for alias in [alias for alias, other in network.named_modules(remove_duplicate=False) if other is part]:
                network.set_submodule(alias, nn.Identity())
                module.set_submodule(alias, nn.Identity())


def final_activations(network: nn.Module, patch_vox: Int3, channels_in: int) -> list[str]:
    """Return the names of the modules that outputs end in, in the mode that the network is in."""
    traced = trace(network, small_sizes(network, patch_vox), channels_in)
    endings = [ending_of(output) for output in tensors_of(traced.outputs) if output.grad_fn is not None]
    offenders = [node for ending in endings for node in ending.offenders]
    for node in offenders:
        check_can_be_taken_off(node, offenders, endings, traced, network)
    return [traced.places[node] for node in offenders]


def check_can_be_taken_off(
    node: Any, offenders: Sequence[Any], endings: Sequence[Ending], traced: Trace, network: nn.Module
) -> None:
    """Raise UserError where the operation is no module of its own, is a norm, or is used inside the network as well."""
    name = traced.places.get(node)
    which = f"{KEY}: {type(network).__name__} ends in {operation(node)}"
    part = None if name is None else network.get_submodule(name)
    if NORM in operation(node):
        raise UserError(f"{which}, a norm and no activation, so it stays; {OTHER_WAY}.")
    if part is None or not stands_alone(part):
        inside = f" of {name} ({type(part).__name__})" if part is not None else ""
        raise UserError(f"{which}, which its forward{inside} calls and which is no module of its own; {OTHER_WAY}.")
    ends = sum(traced.places.get(other) == name for other in set(offenders))
    path = set().union(*(ending.path for ending in endings))
    if ends < traced.calls[str(name)] or users_of([node], tensors_of(traced.outputs)) - path:
        raise UserError(
            f"{which} in module {name} ({type(part).__name__}), which is used inside the network as well, where it "
            "must stay; give the ending a module of its own, or put a 1x1x1 convolution behind it."
        )


def stands_alone(part: nn.Module) -> bool:
    """True for a module that holds no other and, but for PReLU's slopes, no weights: it does one thing."""
    weights = 0 if isinstance(part, nn.PReLU) else sum(1 for _ in part.parameters())
    return weights == 0 and sum(1 for _ in part.children()) == 0
