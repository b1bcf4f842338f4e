"""A warm start: the weights of a model folder as those that a new run begins with, as far as they fit."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.text import in_line
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.log import listed, log
from pipeline.model import ModelFacts, facts_of, read_description, read_weights
from pipeline.nets.registry import build

KEY = "train.start_from"

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Start:
    """What of a new run's network came from a model; names of tensors of the state dict.

    taken: whole. partly: of output channels that are not all in the model. fresh: as the seed made them. unused: the
    model's that have no place. share: of all numbers in the network those that were taken, 0..1. channels: names of
    the output channels that were taken.
    """

    taken: tuple[str, ...]
    partly: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    share: float
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """Output channels of the same name: their positions in the new network, and in the model."""

    head: Head
    model_head: Head

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in self.head.channel_names if name in self.model_head.channel_names)

    @property
    def complete(self) -> bool:
        """Whether the model has every channel."""
        return len(self.names) == self.head.channels

    @property
    def same(self) -> bool:
        """Whether the channels are the model's, in its order."""
        return self.head.channel_names == self.model_head.channel_names

    def positions(self, head: Head) -> Tensor:
        """Return where the channels are under one of the two heads, int64."""
        return torch.tensor([head.channel_names.index(name) for name in self.names], dtype=torch.int64)


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of a model folder's weights, from its `model.json`: it stands for what a run starts from.

    Raises UserError where the folder or that file is missing.
    """
    return str(describe(folder).get("weights_sha256"))


def start_from(net: nn.Module, facts: ModelFacts, folder: Path) -> Start:
    """Give `net` the weights of the model in `folder` wherever name and shape fit, and say in the log what was taken.

    facts: of the new run. What belongs to an output channel comes from the model's channel of that name (background
    from background); channels that the model has not stay as they are. Parameters and buffers are changed in place;
    torch's generators are left as they were, and no code in the folder is run.

    Raises UserError where the folder is missing, torn or altered, holds another network or one with other input
    channels, or where nothing fits.
    """
    description = describe(folder)
    model_facts = facts_of(description, folder)
    check_network(facts, model_facts, folder)
    saved = read_weights(description, folder)
    match = Match(facts.head, model_facts.head)
    state = net.state_dict()
    axes_of: dict[str, Axes | None] = dict.fromkeys(state, ()) if match.same else channel_axes(facts)
    found = [name for name in state if name in saved and fits(state[name], saved[name], axes_of[name], match)]
    if not any(state[name].ndim > 1 for name in found):
        raise UserError(
            f"{KEY}: no weight in {folder} has the name and shape of one in {facts.net.name} with these net.options; "
            f"set net.options to the model's: {in_line(model_facts.net.options)}."
        )
    for name in found:
        take(state[name], saved[name], axes_of[name], match)
    partly = tuple(name for name in found if axes_of[name] and not match.complete)
    start = Start(
        taken=tuple(name for name in found if name not in partly),
        partly=partly,
        fresh=tuple(name for name in state if name not in found),
        unused=tuple(name for name in saved if name not in found),
        share=sum(state[name].numel() for name in found) / sum(tensor.numel() for tensor in state.values()),
        channels=match.names,
    )
    tell(start, facts.head, folder)
    return start


def describe(folder: Path) -> dict[str, Any]:
    """Read `model.json` of the folder that `train.start_from` names."""
    if not folder.is_dir():
        raise UserError(
            f"{KEY}: {folder} is no folder; give a model folder, such as train/fold0/model of a work folder."
        )
    return read_description(folder, KEY)


def check_network(facts: ModelFacts, model_facts: ModelFacts, folder: Path) -> None:
    """Refuse a model of another network, or one that was made for other input channels."""
    if facts.net.name != model_facts.net.name:
        raise UserError(
            f"{KEY}: the network in {folder} is {model_facts.net.name}, and net.name is {facts.net.name}; give a model "
            "of that network, or change net.name."
        )
    if facts.channels_in != model_facts.channels_in:
        raise UserError(
            f"{KEY}: the network in {folder} takes {model_facts.channels_in} input channels, this run gives "
            f"{facts.channels_in}; give a model with as many."
        )


def channel_axes(facts: ModelFacts) -> dict[str, Axes | None]:
    """Return for each tensor of a network the axes that run over its output channels; None where that is not clear.

    They are found without knowing the network, by making it twice: with one channel more they are longer by one.
    """
    with torch.random.fork_rng([]):
        one, other = (
            build(facts.net, facts.channels_in, facts.head.channels + more, facts.patch_vox).state_dict()
            for more in (0, 1)
        )
    axes_of: dict[str, Axes | None] = {}
    for name, tensor in one.items():
        longer = other[name].shape if name in other else torch.Size()
        differences = [after - before for before, after in zip(tensor.shape, longer, strict=False)]
        clear = len(longer) == tensor.ndim and set(differences) <= {0, 1}
        axes_of[name] = tuple(axis for axis, more in enumerate(differences) if more) if clear else None
    return axes_of


def fits(target: Tensor, saved: Tensor, axes: Axes | None, match: Match) -> bool:
    """True where a saved tensor can be taken: its shape is the target's, along channels that of the model's head."""
    if axes is None or (axes and not match.names):
        return False
    wanted = [match.model_head.channels if axis in axes else n for axis, n in enumerate(target.shape)]
    return list(saved.shape) == wanted


def take(target: Tensor, saved: Tensor, axes: Axes | None, match: Match) -> None:
    """Copy a saved tensor into the target, along `axes` each channel to where its name is."""
    if not axes:
        target.copy_(saved)
        return
    places = [torch.arange(n) for n in target.shape]
    for axis in axes:
        saved = saved.index_select(axis, match.positions(match.model_head))
        places[axis] = match.positions(match.head)
    merged = target.cpu().clone()
    merged[torch.meshgrid(*places, indexing="ij")] = saved
    target.copy_(merged)


def tell(start: Start, head: Head, folder: Path) -> None:
    """Say what was taken: in short, and every name in the log file."""
    came, total = len(start.taken) + len(start.partly), sum(map(len, (start.taken, start.partly, start.fresh)))
    log.info("%s: %d of %d tensors, %.1f %% of all numbers, from %s", KEY, came, total, 100 * start.share, folder)
    new = [name for name in head.channel_names if name not in start.channels]
    log.info("output channels taken: %s; new: %s", listed(start.channels) or "none", listed(new) or "none")
    for what in ("taken", "partly", "fresh", "unused"):
        names = getattr(start, what)
        if names:
            log.info("%s: %s", what, groups(names))
            log.debug("%s: %s", what, ", ".join(names))
    if start.share < 0.5:
        log.warning("%s: less than half of the network comes from the model; do net.options differ?", KEY)


def groups(names: Iterable[str]) -> str:
    """Return in one line how many names begin with each first part: encoder 30, head 2."""
    counts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(f"{first} {count}" for first, count in counts.items())
