"""Making a network from a class that names its arguments as it likes, and options that a user wrote."""

import inspect
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn

from pipeline.config.text import in_line
from pipeline.errors import UserError

CHANNELS_IN = ("channels_in", "in_channels", "n_input_channels", "input_channels", "n_channels", "in_chans", "in_ch")
CHANNELS_OUT = (
    "channels_out", "out_channels", "num_classes", "n_classes", "output_channels", "classes", "out_chans", "out_ch",
)  # fmt: skip
DIMENSIONS = "spatial_dims"
RAISED = (Exception, SystemExit)  # by a class that may be anybody's: a call of sys.exit must not end a run in silence


def construct(
    network: type[nn.Module], name: str, channels_in: int, channels_out: int, options: Mapping[str, Any]
) -> nn.Module:
    """Call the class with the channels under the names that it uses, three dimensions where it asks, and the options.

    Raises UserError for an option that it does not know (with the nearest and all that it knows), one that is missing,
    one that the pipeline sets itself, and for whatever the class itself refuses, with its message.
    """
    parameters = inspect.signature(network).parameters
    fixed = fixed_arguments(network, name, channels_in, channels_out)
    named = [key for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    free = [key for key in named if key not in fixed]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in options:
        if key in fixed:
            raise UserError(f"net.options.{key}: set to {fixed[key]} by the pipeline; leave it out.")
        if key not in free and not open_ended:
            raise UserError(f"net.options.{key}: {name} has no such option{nearest(key, free)}.")
    missing = [key for key in free if parameters[key].default is inspect.Parameter.empty and key not in options]
    if missing:
        raise UserError(f"net.options: {name} needs {', '.join(missing)}, which has no default; give it a value.")
    try:
        return network(**fixed, **options)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"net.name: {name} needs a library that is missing: {in_short(error)}; install it with "
            f"{sys.executable} -m pip install NAME, or choose another network."
        ) from error
    except RAISED as error:
        raise UserError(f"net.options: {name} cannot be made with {in_line(options)}: {in_short(error)}.") from error


def fixed_arguments(network: type[nn.Module], name: str, channels_in: int, channels_out: int) -> dict[str, int]:
    """Return the arguments that the pipeline sets. Raises UserError where the class has none for the channels."""
    known = inspect.signature(network).parameters
    key_in, key_out = channel_arguments(network)
    if key_in is None or key_out is None:
        side, keys = ("input", CHANNELS_IN) if key_in is None else ("output", CHANNELS_OUT)
        raise UserError(
            f"net.name: {name} has no argument for its {side} channels; it has {', '.join(known) or 'none'}, "
            f"expected one of {', '.join(keys)}."
        )
    return {key_in: channels_in, key_out: channels_out} | ({DIMENSIONS: 3} if DIMENSIONS in known else {})


def channel_arguments(network: type[nn.Module]) -> tuple[str | None, str | None]:
    """Return what the class calls its input and its output channels; None for what it does not have."""
    known = inspect.signature(network).parameters
    key_in, key_out = (next((key for key in keys if key in known), None) for keys in (CHANNELS_IN, CHANNELS_OUT))
    return key_in, key_out


def nearest(given: str, known: list[str]) -> str:
    """Return the middle of a sentence: the nearest known word, if one is near, and all of them."""
    close = closest(given, known)
    guess = f"; did you mean {close}?" if close else "."
    return f"{guess} Known are {', '.join(known) or 'none'}"


def closest(given: str, known: Iterable[str]) -> str | None:
    """Return the nearest known word, whatever its letters' case, None where none is near."""
    lowered = {word.lower(): word for word in known}
    return next((lowered[word] for word in get_close_matches(given.lower(), lowered, n=1)), None)


def in_short(error: BaseException) -> str:
    """Return an error's kind and the first line of what it says."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]]).rstrip(".")
