"""The network that a config names, ready to be trained or to take saved weights."""

import importlib
from collections.abc import Sequence
from math import ceil
from typing import Any

from torch import Tensor, nn

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.log import listed, log
from pipeline.nets import monai, recompute
from pipeline.nets.constructor import channel_arguments, closest, construct
from pipeline.nets.convolution import guard
from pipeline.nets.foreign import import_module, make_lazy_layers, stated_vox
from pipeline.nets.norms import quicken
from pipeline.nets.strip import KEY, strip_final_activations
from pipeline.nets.transfuse3d import TransFuse3d
from pipeline.nets.uctransnet3d import UCTransNet3d
from pipeline.nets.unet3d import UNet3d
from pipeline.volume.grid import Int3

OWN: dict[str, type[nn.Module]] = {"UNet3d": UNet3d, "UCTransNet3d": UCTransNet3d, "TransFuse3d": TransFuse3d}
MONAI = "monai."
MONAI_NETWORKS = "monai.networks.nets"
USUAL_VOX = (32, 32, 32)
DIMENSIONS = 5  # of logits: (batch, channel, x, y, z)


def build(net: NetSection, channels_in: int, channels_out: int, patch_vox: Int3 = USUAL_VOX) -> nn.Module:
    """Make the network with random weights from torch's generator.

    It takes float (B, channels_in, x, y, z). In training mode it returns (B, channels_out, x, y, z) or a list of such
    tensors, of which the first is the prediction; in eval mode one tensor. It has `multiple_vox` and `smallest_vox`,
    what a patch along x, y, z must be a multiple of and may not fall below, and `largest_vox` where it is made for one
    size. `net.strip_final_activation` and `net.checkpoint` are applied. patch_vox: a size that the network is run at,
    where it is made for one size only and has to be run to find its final activations.

    Raises UserError for a name that is not known, a class that cannot be imported or is no torch.nn.Module, and
    options that do not fit it.
    """
    if net.name in OWN:
        module = construct(OWN[net.name], net.name, channels_in, channels_out, net.options)
    elif net.name.startswith(MONAI):
        module = build_monai(net, channels_in, channels_out)
    elif ":" in net.name:
        module = build_foreign(net, channels_in, channels_out, patch_vox)
    else:
        raise unknown(net.name, known_names())
    if net.strip_final_activation:
        taken = strip_final_activations(module, patch_vox, channels_in)
        found = f"took off {', '.join(taken)}" if taken else "there is none"
        log.info("%s: %s ends in a linear layer: %s", KEY, net.name, found)
    recompute.apply(module, net.checkpoint)
    return module


def build_monai(net: NetSection, channels_in: int, channels_out: int) -> nn.Module:
    """Make one of MONAI's networks. They are imported only when one is asked for: that takes two seconds."""
    name = net.name.removeprefix(MONAI)
    networks = importlib.import_module(MONAI_NETWORKS)
    found: Any = getattr(networks, name, None)
    if not is_network(found):
        raise unknown(net.name, [MONAI + each for each in monai_names()])
    module: Any = construct(found, net.name, channels_in, channels_out, monai.with_defaults(name, net.options))
    monai.without_own_loss(found.__name__, module)
    monai.set_sizes(found.__name__, module)
    quicken(module)
    guard(module)
    reverse = found.__name__ == "BasicUNetPlusPlus"  # its last output is the one that has seen all others
    module.register_forward_hook(last_output_first if reverse else first_output_first)
    return module


def build_foreign(net: NetSection, channels_in: int, channels_out: int, patch_vox: Int3) -> nn.Module:
    """Make a network of a class outside the project, by package.module:Class."""
    place, name = import_module(net.name)
    found: Any = getattr(place, name, None)
    if not is_network(found):
        there = [each for each, value in vars(place).items() if is_network(value)]
        raise UserError(
            f"net.name: {place.__name__} has no subclass of torch.nn.Module that is called {name}; it has "
            f"{listed(there) or 'none'}."
        )
    module: Any = construct(found, net.name, channels_in, channels_out, net.options)
    for key in ("multiple_vox", "smallest_vox", *(["largest_vox"] if hasattr(module, "largest_vox") else [])):
        setattr(module, key, stated_vox(module, key, net.name))
    module.register_forward_hook(first_output_first)
    make_lazy_layers(module, net.name, patch_vox, channels_in)
    return module


def unknown(name: str, known: Sequence[str]) -> UserError:
    """Return the refusal of a name that is not known, with the nearest that is."""
    close = closest(name, known)
    expected = f"{', '.join(OWN)}, {MONAI}NAME or package.module:Class"
    hint = f"did you mean {close}?" if close else f"expected {expected}."
    return UserError(f"net.name: there is no network {name}; {hint} docs/networks.md lists them.")


def check_patch(module: Any, patch_vox: Int3, name: str) -> None:
    """Raise UserError where the network `name` cannot take a patch of this size, with the nearest that it can."""
    if hasattr(module, "largest_vox") and any(n > most for n, most in zip(patch_vox, module.largest_vox, strict=True)):
        raise UserError(
            f"sample.patch_vox: {list(patch_vox)} does not suit {name}, which was made for patches of at most "
            f"{list(module.largest_vox)}; set that, or net.options.img_size to the patch."
        )
    smallest, multiple = module.smallest_vox, module.multiple_vox
    axes = zip(patch_vox, smallest, multiple, strict=True)
    legal = [max(ceil(low / step), round(n / step)) * step for n, low, step in axes]
    if list(patch_vox) != legal:
        stated = ":" in name
        cure = "That is what its class states" if stated else "Fewer or smaller strides take smaller patches"
        raise UserError(
            f"sample.patch_vox: {list(patch_vox)} does not suit {name}, which takes multiples of {list(multiple)} from "
            f"{list(smallest)} up; the nearest is {legal}. {cure}."
        )


def first_output_first(module: nn.Module, inputs: Any, output: Any) -> Tensor | list[Tensor]:
    """Forward hook: give what the network returns the form of the contract (see `build`).

    Outputs stacked along a second axis, as MONAI's DynUNet gives them, are taken apart; what is no tensor of the
    logits' dimensions (a second loss, attention maps) is left out.
    """
    if isinstance(output, Tensor):
        if output.dim() <= DIMENSIONS:
            return output
        output = output.unbind(1)
    parts = output if isinstance(output, list | tuple) else ()
    outputs = [part for part in parts if isinstance(part, Tensor) and part.dim() == DIMENSIONS]
    if not outputs:
        raise UserError(
            f"net.name: {type(module).__name__} returns no tensor of (batch, channel, x, y, z) but "
            f"{type(output).__name__}; return one, or a list of them with the prediction first."
        )
    return outputs if module.training and len(outputs) > 1 else outputs[0]


def last_output_first(module: nn.Module, inputs: Any, output: Sequence[Tensor]) -> Tensor | list[Tensor]:
    """Forward hook for networks whose last output is the prediction."""
    return first_output_first(module, inputs, list(reversed(output)))


def is_network(found: Any) -> bool:
    """True for a class of torch modules."""
    return isinstance(found, type) and issubclass(found, nn.Module)


def monai_names() -> list[str]:
    """Return the names of MONAI's classes that turn channels into channels, without their other spellings."""
    found = vars(importlib.import_module(MONAI_NETWORKS)).items()
    networks = {name: value for name, value in found if is_network(value) and value.__name__ == name}
    return sorted(name for name, network in networks.items() if None not in channel_arguments(network))


def known_names() -> list[str]:
    """Return every name that needs no import path."""
    return [*OWN, *(MONAI + name for name in monai_names())]
