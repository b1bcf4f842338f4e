"""Say what a config's network is, what it takes and whether it can learn, before data are touched."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import torch
from torch import nn

from pipeline.config.check import check_labels
from pipeline.config.config import Config
from pipeline.config.net import NetSection
from pipeline.device import choose, is_out_of_memory
from pipeline.errors import ExitCode, UserError
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.log import by, listed, log, prose_table
from pipeline.nets.constructor import in_short
from pipeline.nets.count import multiply_adds
from pipeline.nets.probe import Verdict, check_head_weights, probe
from pipeline.nets.receptive_field import NoGradient, receptive_field
from pipeline.nets.registry import build, check_patch
from pipeline.nets.trace import trace
from pipeline.planning.cost import GIB, Trial
from pipeline.planning.network import CHANNELS_IN
from pipeline.stages.data import labels_of, store_of
from pipeline.stages.measured import measured_step
from pipeline.store.catalogue import Catalogue
from pipeline.store.layout import catalogue_file
from pipeline.volume.grid import Int3

COLUMNS = ("what", "found")
Row = tuple[str, str]
NO_MEMORY = "memory does not suffice"


def run(config: Config) -> ExitCode:
    """Print a table of the network: verdict, size, cost, and which patches it takes.

    SOME_FAILED where the door refuses the network, or a size that its rule allows does not run. Raises UserError where
    the network cannot be made, does not take the config's patch, or no classes are named anywhere.
    """
    device = choose(config.train.device)
    labels = known_labels(config)
    check_labels(config, labels)
    head = Head(config.head.kind, labels, config.head.threshold)
    torch.manual_seed(config.seed)
    patch_vox = config.sample.patch_vox
    net: Any = build(config.net, CHANNELS_IN, head.channels, patch_vox)
    check_patch(net, patch_vox, config.net.name)
    try:
        verdict = probe(net, patch_vox, channels_in=CHANNELS_IN, channels_out=head.channels)
    except UserError as refusal:
        prose_table(config.net.name, COLUMNS, [("verdict", f"REFUSED. {refusal}")])
        return ExitCode.SOME_FAILED
    check_head_weights(config.net.head_weights, verdict)
    prose_table(config.net.name, COLUMNS, [*facts(net, verdict, config, device), *costs(config, head)])
    tried = list(trials(net, config.net.name))
    prose_table("patches, tried", COLUMNS, [(what, found) for what, found, _ in tried])
    return ExitCode.DONE if all(as_it_should for _, _, as_it_should in tried) else ExitCode.SOME_FAILED


def known_labels(config: Config) -> Labels:
    """Return the classes: of the config, else of its store, else of the data set. Raises UserError without any."""
    store = store_of(config)
    if config.labels is None and catalogue_file(store).exists():
        return Catalogue.read(store).labels
    if config.labels is None and config.data.source is None:
        raise UserError(
            f"labels: not set, and there is neither a store at {store} nor a data.source that names classes; a network "
            "has an output for each class: add for example labels={liver: 1}."
        )
    return labels_of(config)


def facts(net: Any, verdict: Verdict, config: Config, device: torch.device) -> Iterator[Row]:
    """Yield what is known of a network without training it."""
    patch_vox, spacing_mm = config.sample.patch_vox, config.prepare.spacing_mm
    yield "verdict", f"passes the door: {verdict.text.partition(':')[0]}"
    yield "channels", f"{CHANNELS_IN} in, {verdict.channels_out} out"
    yield "parameters", f"{verdict.parameters:,}"
    if verdict.unused:
        yield "without a gradient", f"{len(verdict.unused)} weights that no output depends on: {listed(verdict.unused)}"
    yield "multiply-adds", f"{counted(net, patch_vox, device)} for one patch of {by(patch_vox)} voxels"
    yield "receptive field", seen(net, patch_vox, spacing_mm)
    limit = f"to {by(net.largest_vox)} voxels" if hasattr(net, "largest_vox") else "voxels up"
    yield "patch sizes", f"multiples of {by(net.multiple_vox)} from {by(net.smallest_vox)} {limit}"
    if verdict.mixes_samples:
        yield "samples of a batch", "are MIXED: a window's prediction depends on those that are predicted with it"
    resolutions = "; ".join(by(shape[2:]) for shape in verdict.output_shapes)
    yield "outputs in training", f"{resolutions} voxels, of an input of {by(verdict.probed_vox)}"


def counted(net: nn.Module, patch_vox: Int3, device: torch.device) -> str:
    """Return the multiply-adds of a patch in words."""
    try:
        return f"{multiply_adds(net.to(device), patch_vox, CHANNELS_IN) / 1e9:,.3g} billion"
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return f"unknown, as {NO_MEMORY}"
    finally:
        net.to("cpu")


def seen(net: nn.Module, patch_vox: Int3, spacing_mm: tuple[float, float, float]) -> str:
    """Return the receptive field in words."""
    try:
        field = receptive_field(net, CHANNELS_IN, patch_vox)
    except NoGradient as reason:
        return f"unknown: {reason}"
    except Exception as error:  # a foreign network may raise anything at a size that it is not made for
        return f"unknown: {in_short(error)}"
    size_mm = [voxels * step for voxels, step in zip(field.size_vox, spacing_mm, strict=True)]
    least = "at least " if any(field.whole) else ""
    return f"{least}{by(field.size_vox)} voxels, {by(size_mm, '.3g')} mm, norms left out"


def costs(config: Config, head: Head) -> Iterator[Row]:
    """Yield what a training step takes in each mode of gradient checkpointing, each in a process of its own."""
    sample, parts = config.sample, config.train.accumulate
    at_once = max(1, sample.batch // parts)
    batch = f"a batch of {sample.batch}" if parts == 1 else f"each of {parts} parts of a batch of {sample.batch}"
    for mode in get_args(NetSection.model_fields["checkpoint"].annotation):
        if mode == "auto":  # one of the others
            continue
        trial = Trial(config.net.model_copy(update={"checkpoint": mode}), sample.patch_vox, at_once)
        what = f"step, checkpoint {mode}"
        try:
            cost = measured_step(trial, config=config, head=head)
        except UserError as refusal:
            yield what, f"cannot be had: {refusal}"
            continue
        log.info("measured: a step with net.checkpoint=%s", mode)
        found = NO_MEMORY if cost is None else f"{cost.memory_bytes / GIB:.2f} GiB, {cost.seconds:.2g} s"
        yield what, f"{found}, for {batch}" if mode == "none" else found


def trials(net: Any, name: str) -> Iterator[tuple[str, str, bool]]:
    """Yield what became of sizes that the network's rule allows and forbids, and whether that is as it should be."""
    low, step = net.smallest_vox, net.multiple_vox
    following = shifted(low, step, 1)
    allowed = {"smallest": low, "next": following}
    forbidden = {
        "too small": shifted(low, step, -1),
        "no multiple": shifted(low, tuple(min(1, n - 1) for n in step), 1),
    }
    if hasattr(net, "largest_vox"):
        forbidden["too large"] = shifted(net.largest_vox, step, 1)
        if any(n > most for n, most in zip(following, net.largest_vox, strict=True)):
            del allowed["next"]
    for what, size in allowed.items():
        try:
            check_patch(net, size, name)
            trace(net.train(), (size,), CHANNELS_IN)
            yield f"{what}: {by(size)}", "runs", True
        except UserError as refusal:
            yield f"{what}: {by(size)}", f"DOES NOT RUN. {refusal}", False
    for what, size in forbidden.items():
        if min(size) < 1 or size == low:
            continue  # there is no such size
        try:
            check_patch(net, size, name)
            yield f"{what}: {by(size)}", "NOT REFUSED", False
        except UserError:
            yield f"{what}: {by(size)}", "refused, as it should be", True


def shifted(size: Int3, step: Sequence[int], times: int) -> Int3:
    """Return a size so many steps larger along each axis."""
    x, y, z = (n + times * one for n, one in zip(size, step, strict=True))
    return x, y, z
