"""Train a network on the prepared cases of a work folder: the best model, and a state to continue from."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from pipeline.config.check import check_inference, check_labels
from pipeline.config.config import Config
from pipeline.config.train import TrainSection
from pipeline.dataset.folds import fold_of
from pipeline.device import amp_dtype, choose, memory_format, memory_told
from pipeline.files import hash_json, write_json
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.log import log
from pipeline.losses.build import build as build_loss
from pipeline.losses.loss import Loss
from pipeline.model import Model, ModelFacts
from pipeline.nets.probe import Verdict, probe
from pipeline.nets.registry import build, check_patch
from pipeline.sampling.index import Index, build_index
from pipeline.sampling.loader import Batch, batches, make_batch
from pipeline.sampling.statistics import dominant_cases
from pipeline.stages.data import training_cases
from pipeline.store.reader import PreparedCase
from pipeline.training.checkpoint import load_state
from pipeline.training.identity import claim, training_keys
from pipeline.training.loop import Loop, Progress
from pipeline.training.optimise import make_optimiser
from pipeline.training.recorder import Recorder
from pipeline.training.step import TOO_LARGE, Step
from pipeline.training.trial import Trial
from pipeline.training.validate import validate
from pipeline.volume.intensity import Intensity, standardisation
from pipeline.work import Outcome, WorkFolder, available_cores

CHANNELS_IN = 1
MOST_WORKERS = 8


@dataclass(frozen=True, eq=False)
class Cases:
    """The prepared cases of a run: what is learnt from, and what is held out."""

    training: list[PreparedCase]
    validation: list[PreparedCase]


def run(config: Config) -> Outcome:
    """Train the fold `train.fold`, continue it where it was interrupted, or say that it is done.

    Raises UserError where the store, the network, the loss and the labels do not fit together; Interrupted once a
    requested stop has saved its state.
    """
    device = choose(config.train.device)
    set_up_torch(config.train, device)
    labels, cases = split(config)
    check_labels(config, labels)
    check_inference(config.infer, labels)
    head = Head(config.head.kind, labels, config.head.threshold)
    index = build_index(cases.training, head, config.augment.mirror)
    with memory_told(TOO_LARGE):
        net, verdict = make_net(config, head, device)
    facts = describe_model(config, head, cases.training, verdict)
    folder = WorkFolder(config.work).train(config.train.fold)
    keys = training_keys(config, cases.training, cases.validation, labels)
    if claim(folder, keys, resume=config.train.resume, restart=config.train.restart):
        log.info("%s is done; a run of another length or config needs a work folder of its own", folder)
        return Outcome(skipped=(folder.name,))
    report_start(config, cases, index, verdict, device)
    with memory_told(TOO_LARGE):
        progress = train(config, net, facts, cases, index, folder, device)
    ending = {"step": progress.step, "best_step": progress.best_step, "dice": progress.best_dice}
    write_json(folder / "done.json", ending)
    log.info("model: %s; curves: tensorboard --logdir %s", folder / "model", folder.parent)
    return Outcome(done=(folder.name,))


def set_up_torch(train: TrainSection, device: torch.device) -> None:
    """Set threads, and whether torch must take algorithms whose results repeat bit for bit."""
    torch.set_num_threads(available_cores() if train.threads == "auto" else train.threads)
    deterministic = device.type == "cpu" if train.deterministic == "auto" else train.deterministic
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses matrix products on CUDA
    # It guards against bugs of torch's users, at a cost.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic


def split(config: Config) -> tuple[Labels, Cases]:
    """Return the classes, and the prepared cases with those of the fold `train.fold` held out."""
    labels, listed, prepared = training_cases(config)
    if config.train.fold == "all":
        return labels, Cases(prepared, [])
    fold = fold_of(listed, config.data.folds, config.seed)
    held_out = [case for case in prepared if fold[case.name] == config.train.fold]
    return labels, Cases([case for case in prepared if fold[case.name] != config.train.fold], held_out)


def make_net(config: Config, head: Head, device: torch.device) -> tuple[nn.Module, Verdict]:
    """Return the network with the weights that the seed gives, proved to take the patch and to end linearly."""
    torch.manual_seed(config.seed)
    net = build(config.net, CHANNELS_IN, head.channels)
    check_patch(net, config.sample.patch_vox, config.net.name)
    verdict = probe(net, config.sample.patch_vox, channels_in=CHANNELS_IN, channels_out=head.channels)
    return net.to(device).to(memory_format=memory_format(device)), verdict  # type: ignore[call-overload]


def describe_model(config: Config, head: Head, cases: Sequence[PreparedCase], verdict: Verdict) -> ModelFacts:
    """Return what goes into the model folder beside the weights."""
    chosen = config.intensity
    mean, std = standardisation([case.histogram for case in cases], chosen.window_hu, chosen.gamma)
    intensity = Intensity(
        window_hu=chosen.window_hu,
        gamma=chosen.gamma,
        mean=mean if chosen.mean is None else chosen.mean,
        std=std if chosen.std is None else chosen.std,
    )
    provenance: dict[str, Any] = {
        "seed": config.seed,
        "fold": config.train.fold,
        "training_cases": [case.name for case in cases],
        "training_data": hash_json({case.name: dict(case.hashes) for case in cases}),
        "door": verdict.text,
    }
    return ModelFacts(
        head=head, labels=head.labels, spacing_mm=config.prepare.spacing_mm, intensity=intensity,
        patch_vox=config.sample.patch_vox, net=config.net, provenance=provenance,
    )  # fmt: skip


def report_start(config: Config, cases: Cases, index: Index, verdict: Verdict, device: torch.device) -> None:
    """Say what is about to be trained, and what is odd about the data."""
    held_out = ", ".join(case.name for case in cases.validation) or "none"
    log.info("%s on %s with %d threads", verdict.text, device, torch.get_num_threads())
    log.info("%d training cases; held out for validation: %s", len(cases.training), held_out)
    for name, share in dominant_cases(index, config.sample).items():
        log.warning("%s supplies %.0f %% of all patches: what is learnt of rare classes rests on it", name, 100 * share)


def train(
    config: Config, net: nn.Module, facts: ModelFacts, cases: Cases, index: Index, folder: Path, device: torch.device
) -> Progress:
    """Take the run from wherever it stands to its end."""
    section = config.train
    loss = build_loss(config.loss, facts.head, config.net.head_weights).to(device)
    saved = load_state(folder / "state")
    if saved is None:
        amp = choose_amp(config, net, loss, facts, index, device)
    else:
        amp = None if saved.facts["amp"] is None else getattr(torch, saved.facts["amp"])
    log.info("forward pass in %s", "float32" if amp is None else amp)
    step = Step(net, loss, make_optimiser(net, section), device=device, amp=amp, clip=section.clip)
    after = saved.step if saved else 0
    recorder = Recorder(folder, facts.head, list(loss.terms), device, section.log_every_steps, after)
    recorder.board.text("config", "```yaml\n" + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False) + "```")
    loop = Loop(
        step, section, config.seed, folder / "state", recorder,
        batches=partial(stream, config, index, facts.intensity, device),
        validate=partial(validate, net, cases.validation, facts, config.infer, device) if cases.validation else None,
        keep=partial(keep, net, facts, folder / "model"),
    )  # fmt: skip
    if saved:
        loop.resume(saved, has_model=(folder / "model").is_dir())
        log.info("continuing after step %d", saved.step)
    try:
        return loop.run()
    finally:
        recorder.close()


def choose_amp(
    config: Config, net: nn.Module, loss: Loss, facts: ModelFacts, index: Index, device: torch.device
) -> torch.dtype | None:
    """Return the type of mixed precision, None for float32.

    On a CPU networks other than the project's get bfloat16 only where it is asked for: torch's gradients may be wrong
    there, see `nets.unet3d.Convolution`.
    """
    if not getattr(net, "right_in_cpu_bfloat16", False) and device.type == "cpu":
        if config.train.amp == "bf16":
            name = config.net.name
            log.warning("train.amp=bf16: on a CPU gradients of %s may be wrong where an axis has 2 voxels", name)
        return amp_dtype(config.train.amp, device)
    first = make_batch(index, config.sample, config.augment, facts.intensity, config.seed, 1)
    return amp_dtype(config.train.amp, device, Trial(net, loss, first, device))


def stream(
    config: Config, index: Index, intensity: Intensity, device: torch.device, first_step: int, last_step: int
) -> Iterator[Batch]:
    """Yield the batches of steps from `first_step` up to, not including, `last_step`.

    By default batches are made in this process on a CPU, where a second process would only take its cores, and by the
    other cores beside a GPU.
    """
    given = config.sample.workers
    beside_gpu = max(1, min(MOST_WORKERS, available_cores() - 1))
    workers = given if given != "auto" else 0 if device.type == "cpu" else beside_gpu
    return batches(index, config.sample, config.augment, intensity, config.seed, first_step, last_step, workers)


def keep(net: nn.Module, facts: ModelFacts, folder: Path, step: int, dice: float | None) -> None:
    """Write the model folder of the weights as they are now."""
    provenance = {**facts.provenance, "step": step, "validation_dice": dice}
    Model(replace(facts, provenance=provenance), net).save(folder)
