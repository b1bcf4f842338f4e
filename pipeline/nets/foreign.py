"""A user's own network: the module that its class is in, the patches that it states, and layers without sizes."""

import importlib
import sys
import traceback
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from pipeline.config.text import in_line
from pipeline.errors import UserError
from pipeline.log import listed
from pipeline.nets.axes import by_axis
from pipeline.nets.constructor import RAISED, in_short
from pipeline.nets.trace import small_sizes, trace
from pipeline.nets.unet_options import is_stride
from pipeline.volume.grid import Int3


def import_module(name: str) -> tuple[ModuleType, str]:
    """Return the module and the class name that `net.name` is made of; importing it runs the user's code."""
    place, _, called = name.partition(":")
    if not all(part.isidentifier() for part in (*place.split("."), called)):
        raise UserError(f"net.name: found {name}; expected package.module:Class, such as mynets.unet:Net.")
    try:
        return importlib.import_module(place), called
    except RAISED as error:
        raise UserError(f"net.name: {place} cannot be imported: {_why(error, place)}") from error


def _why(error: BaseException, place: str) -> str:
    """Return what stopped an import, where, and what to do."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {error.msg}; mend that line."
    if isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(f"{error.name}."):
        return f"{in_short(error)}; it must be installed or lie in a folder of PYTHONPATH."
    if isinstance(error, ModuleNotFoundError):
        return f"{in_short(error)}; install that library with {sys.executable} -m pip install NAME."
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{in_short(error)} ({last.filename}, line {last.lineno}); mend what that line does."


def stated_vox(module: Any, key: str, name: str) -> Int3:
    """Return what the network `name` says under `multiple_vox` or one of its kin; 1 where it says nothing."""
    given = getattr(module, key, 1)
    if not is_stride(given):
        shown = in_line(given) if isinstance(given, str | int | float | list | tuple) else type(given).__name__
        raise UserError(
            f"net.name: {name} has {key} = {shown}; expected a whole number of at least 1, or three of them for x, y "
            "and z; mend it in the class."
        )
    return by_axis(given)


def make_lazy_layers(module: nn.Module, name: str, patch_vox: Int3, channels_in: int) -> None:
    """Run a network once, in eval mode, where it has layers that take their sizes from their first input.

    So they have their weights before anything looks at these. Raises UserError where it cannot be run, or leaves such a
    layer out.
    """
    if not lazy_layers(module):
        return
    trace(module.eval(), small_sizes(module, patch_vox), channels_in)
    module.train()
    left = lazy_layers(module)
    if left:
        raise UserError(
            f"net.name: {name} runs without {listed(left)} in eval mode, so that these lazy layers have no weights; "
            "give them their sizes, as in nn.Conv3d(4, 8, 3) in place of nn.LazyConv3d(8, 3)."
        )


def lazy_layers(module: nn.Module) -> list[str]:
    """Return the layers that have not seen their first input, in words such as "end (LazyConv3d)"."""
    parts = [(name, part) for name, part in module.named_modules() if isinstance(part, LazyModuleMixin)]
    return [f"{name} ({type(part).__name__})" for name, part in parts if part.cls_to_become is not None]
