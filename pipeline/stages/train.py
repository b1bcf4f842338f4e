"""Train a network on the prepared cases of a work folder: the best model, and a state to continue from."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.config.check import check_inference, check_labels
from pipeline.config.config import Config
from pipeline.config.infer import InferSection
from pipeline.config.text import in_line
from pipeline.dataset.folds import held_out
from pipeline.device import choose, memory_format, memory_told
from pipeline.errors import UserError
from pipeline.files import hash_json, write_json
from pipeline.head import Head
from pipeline.labels import IGNORE, Labels
from pipeline.log import listed, log
from pipeline.losses.build import build as build_loss
from pipeline.model import Model, ModelFacts, is_whole, read_facts
from pipeline.monitor.about import about
from pipeline.nets import recompute
from pipeline.nets.probe import Verdict, check_head_weights, probe
from pipeline.nets.registry import build, check_patch
from pipeline.ranks import this_rank
from pipeline.sampling.index import Index, build_index, has_any
from pipeline.sampling.loader import batches
from pipeline.sampling.statistics import case_shares, dominant_cases
from pipeline.stages.data import training_cases
from pipeline.stages.precision import amp_of_run
from pipeline.stages.recomputing import recompute_mode
from pipeline.stages.run_facts import run_facts
from pipeline.stages.torch_setup import loader_workers, set_up_torch
from pipeline.store.reader import PreparedCase
from pipeline.training.checkpoint import State, load_state, state_folders
from pipeline.training.distributed import Ranks, joined
from pipeline.training.ending import ending_told
from pipeline.training.identity import claim, goes_on, keys_of, training_keys, validation_of
from pipeline.training.loop import Loop, Progress
from pipeline.training.optimise import make_optimiser
from pipeline.training.owner import Owner
from pipeline.training.recorder import Recorder
from pipeline.training.start import start_from, weights_hash
from pipeline.training.step import TOO_LARGE, Step
from pipeline.training.validate import validate
from pipeline.volume.grid import Int3
from pipeline.volume.intensity import Intensity, standardisation
from pipeline.work import DONE, MODEL, RUN, STATE, Outcome, WorkFolder

CHANNELS_IN = 1
VALIDATED_BY = {"overlap", "mirror", "keep_largest"}  # of infer.*: what changes the scores by more than rounding
MOSTLY = 0.5  # of a patch: below it most of every patch is padding


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
    rank = this_rank()
    device = choose(config.train.device, rank.local if rank.count > 1 else None)
    if device.index is not None:
        torch.cuda.set_device(device)  # else pinned memory would take some of the first GPU too
    workers = loader_workers(config.sample.workers, device)
    set_up_torch(config.train, workers, device)
    with joined(rank, device) as ranks:
        return run_together(config, device, workers, ranks)


def run_together(config: Config, device: torch.device, workers: int, ranks: Ranks) -> Outcome:
    """Do what `run` says, as one of several ranks or alone; the first one writes."""
    check_batch(config, ranks)
    labels, cases = split(config)
    check_labels(config, labels)
    check_inference(config.infer, labels)
    head = Head(config.head.kind, labels, config.head.threshold)
    check_held_out(head, cases)
    index = build_index(cases.training, head, config.augment.mirror)
    with memory_told(TOO_LARGE):
        net, verdict = make_net(config, head, device)
    facts = describe_model(config, head, cases.training, verdict)
    folder = WorkFolder(config.work).train(config.train.fold)
    keys = training_keys(config, cases.training, cases.validation, labels)
    if config.train.start_from:
        keys["train.start_from"] = started_from(config.train.start_from, folder)
        if not goes_on(folder, restart=config.train.restart):
            check_elsewhere(config.train.start_from, folder)
            start_from(net, facts, config.train.start_from)
    ranks.any(False)  # all have read what is there before the first one changes it
    done = ranks.is_first and claim(
        folder, keys, resume=config.train.resume, restart=config.train.restart,
        validation=config.infer.model_dump(mode="json", include=VALIDATED_BY),
    )  # fmt: skip
    if ranks.of_first(done):
        log.info("%s is done; a run of another length or config needs a work folder of its own", folder)
        return Outcome(skipped=(folder.name,))
    config = as_validated(config, ranks.of_first(validation_of(folder) if ranks.is_first else None))
    log.info("%s on %s with %d threads and %d loader processes", verdict.text, device, torch.get_num_threads(), workers)
    if ranks.count > 1:
        log.info("%d processes share each batch of %d", ranks.count, config.sample.batch)
    report_data(config, cases, index)
    report_patch(config.sample.patch_vox, cases.training)
    report_door(verdict)
    with ending_told(folder if ranks.is_first else None), memory_told(TOO_LARGE):
        recompute.apply(net, recompute_mode(config, head, folder, ranks) or "none")
        progress = train(config, net, facts, cases, index, folder, ranks, all_used=not verdict.unused)
    if ranks.is_first:
        ending = {"step": progress.step, "best_step": progress.best_step, "dice": progress.best_dice}
        write_json(folder / DONE, ending)
    log.info("model: %s; curves: tensorboard --logdir %s", folder / MODEL, shlex.quote(str(folder.parent)))
    return Outcome(done=(folder.name,))


def check_batch(config: Config, ranks: Ranks) -> None:
    """Raise UserError where a batch cannot be divided evenly among ranks and parts."""
    batch, parts = config.sample.batch, config.train.accumulate
    if batch % (ranks.count * parts):
        raise UserError(
            f"sample.batch: {batch} patches cannot be shared evenly among {ranks.count} processes with "
            f"train.accumulate={parts}; expected a multiple of {ranks.count * parts}."
        )


def check_held_out(head: Head, cases: Cases) -> None:
    """Raise UserError where all cases that have a class are held out: there is nothing to learn it from."""
    for name, target in zip(head.target_names, head.targets, strict=True):
        kept, out = (
            [case.name for case in some if has_any(case, target)] for some in (cases.training, cases.validation)
        )
        if out and not kept:
            raise UserError(
                f"train.fold: all cases that have {name} ({listed(out)}) are held out, so there is none to learn it "
                "from; choose another fold, or hold nothing out with train.fold=all."
            )


def split(config: Config) -> tuple[Labels, Cases]:
    """Return the classes, and the prepared cases with those of the fold `train.fold` held out."""
    labels, listed, prepared = training_cases(config)
    present = {case.name: set(case.counts) - {0, IGNORE} for case in prepared}
    validation = held_out(listed, config.data.folds, config.seed, config.train.fold, present)
    return labels, Cases(
        training=[case for case in prepared if case.name not in validation],
        validation=[case for case in prepared if case.name in validation],
    )


def make_net(config: Config, head: Head, device: torch.device) -> tuple[nn.Module, Verdict]:
    """Return the network with the weights that the seed gives, proved to take the patch and to end linearly."""
    torch.manual_seed(config.seed)
    net = build(config.net, CHANNELS_IN, head.channels, config.sample.patch_vox)
    check_patch(net, config.sample.patch_vox, config.net.name)
    verdict = probe(net, config.sample.patch_vox, channels_in=CHANNELS_IN, channels_out=head.channels)
    check_head_weights(config.net.head_weights, verdict)
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


def report_data(config: Config, cases: Cases, index: Index) -> None:
    """Say what is learnt from, what is held out, and what is odd about it."""
    validation = ", ".join(case.name for case in cases.validation) or "none"
    log.info("%d training cases; held out for validation: %s", len(cases.training), validation)
    for name, share in dominant_cases(case_shares(index, config.sample)).items():
        log.warning("%s supplies %.0f %% of all patches: what is learnt of rare classes rests on it", name, 100 * share)


def report_patch(patch_vox: Int3, cases: Sequence[PreparedCase]) -> None:
    """Say so where the patch is larger than every case, so that most of it is air that was put around them."""
    filled = {case.name: prod(map(min, zip(patch_vox, case.grid.shape_vox, strict=True))) for case in cases}
    fullest = max(cases, key=lambda case: filled[case.name])
    share = filled[fullest.name] / prod(patch_vox)
    if share < MOSTLY:
        log.warning(
            "sample.patch_vox: %s is mostly padding: the case that fills most of it, %s, has %s voxels, %.0f %% of it; "
            "a patch of that size costs less and shows as much",
            list(patch_vox), fullest.name, list(fullest.grid.shape_vox), 100 * share,
        )  # fmt: skip


def report_door(verdict: Verdict) -> None:
    """Say which weights will not learn, and whether predictions depend on one another."""
    if verdict.mixes_samples:
        log.warning(
            "the network mixes the samples of a batch in prediction, too: what it says of a window depends on the "
            "others that are predicted with it; set infer.windows=1, or let it compute each sample by itself"
        )
    if verdict.unused:
        log.warning(
            "no output of the network depends on %d of its weights (%s): they get no gradient and stay as they are",
            len(verdict.unused), listed(verdict.unused),
        )  # fmt: skip


def train(
    config: Config, net: nn.Module, facts: ModelFacts, cases: Cases, index: Index, folder: Path, ranks: Ranks, *,
    all_used: bool = True,
) -> Progress:  # fmt: skip
    """Take the run from wherever it stands to its end. all_used: whether every weight gets a gradient."""
    section, device = config.train, ranks.device
    counts = sum((Counter(case.counts) for case in cases.training), start=Counter[int]())
    spacing_mm = config.prepare.spacing_mm
    loss = build_loss(config.loss, facts.head, config.net.head_weights, spacing_mm=spacing_mm, voxel_counts=counts).to(
        device
    )
    owner = Owner(folder) if ranks.is_first else None
    saved = common_state(folder / STATE, ranks)
    if saved is None and (folder / MODEL).is_dir():
        log.warning("%s: no state is left of this run; it begins again at step 1, and its model is replaced", folder)
    has_model = ranks.of_first(ranks.is_first and saved is not None and model_stands(folder / MODEL, saved))
    amp = amp_of_run(config, net, loss, facts, index, ranks, saved)
    step = Step(
        net, loss, make_optimiser(net, section), device=device, amp=amp, clip=section.clip,
        accumulate=section.accumulate, ranks=ranks, compile=section.compile, all_used=all_used,
    )  # fmt: skip
    recorder = None
    if ranks.is_first:
        validates_again = saved is not None and (not has_model or saved.facts["progress"]["validated"] < saved.step)
        recorder = Recorder(
            folder, facts.head, list(loss.terms), list(index.cases), device, every=section.log_every_steps,
            facts=run_facts(config, facts.head, net, loss.terms, cases.training, ranks=ranks.count, amp=amp),
            after_step=saved.step if saved else 0,
            after_validation=saved.step - 1 if saved and validates_again else None,
            about=about(config, facts, cases.training, cases.validation),
        )  # fmt: skip
    loop = Loop(
        step, section, config.seed, folder / STATE, recorder,
        batches=partial(
            batches, index, config.sample, config.augment, facts.intensity, config.seed,
            workers=loader_workers(config.sample.workers, device), rank=ranks.number, ranks=ranks.count,
            pinned=device.type == "cuda",
        ),
        validate=partial(validate, net, cases.validation, facts, config.infer, device, ranks=ranks)
        if cases.validation else None,
        keep=partial(keep, net, facts, folder / MODEL), owner=owner,
    )  # fmt: skip
    if saved:
        loop.resume(saved, has_model=has_model)
        log.info("continuing after step %d", saved.step)
    try:
        return loop.run()
    finally:
        if recorder:
            recorder.close()


def started_from(model: Path, folder: Path) -> str:
    """Return the hash of the weights that a run begins with; one that goes on needs them no more."""
    try:
        return weights_hash(model)
    except UserError:
        record = folder / RUN
        before = keys_of(record).get("train.start_from") if record.exists() else None
        if before is None or not state_folders(folder / STATE):
            raise
        return str(before)


def check_elsewhere(model: Path, folder: Path) -> None:
    """Refuse to start from what train.restart is about to move aside: interrupted, the new run could not go on."""
    if folder.resolve() in model.resolve().parents:
        raise UserError(
            f"train.start_from: {model} lies in the folder of the run that is to start from it; give that run a work "
            "folder of its own with work=."
        )


def as_validated(config: Config, before: dict[str, Any]) -> Config:
    """Return the config with which held-out cases are predicted as the run began with: its scores choose its model."""
    begun = InferSection(**before)
    kept = [key for key in before if key in VALIDATED_BY]
    infer = config.infer.model_copy(update={key: getattr(begun, key) for key in kept})
    changed = [key for key in kept if getattr(infer, key) != getattr(config.infer, key)]
    if changed:
        told = ", ".join(f"infer.{key}={in_line(before[key])}" for key in changed)
        log.warning("validations go on with %s, as the run began; scores would not compare otherwise", told)
    return config.model_copy(update={"infer": infer})


def model_stands(folder: Path, saved: State) -> bool:
    """True where the model folder holds the best model that a state knows of.

    A later one is of a validation whose state was never saved: the weights of the best before are gone with it.
    """
    return is_whole(folder) and read_facts(folder).provenance.get("step") == saved.facts["progress"]["best_step"]


def common_state(folder: Path, ranks: Ranks) -> State | None:
    """Return the state to go on from, None where there is none; UserError where ranks do not find the same one."""
    saved = load_state(folder)
    found = ranks.gather(saved.step if saved else 0)
    if len(set(found)) > 1:
        raise UserError(
            f"{folder}: processes find states after different steps ({listed(map(str, found))}); expected one folder "
            "that all of them see: put the work folder on a disk that all machines share, and run again."
        )
    return saved


def keep(net: nn.Module, facts: ModelFacts, folder: Path, step: int, dice: float | None) -> None:
    """Write the model folder of the weights as they are now."""
    provenance = {**facts.provenance, "step": step, "validation_dice": dice}
    Model(replace(facts, provenance=provenance), net).save(folder)
