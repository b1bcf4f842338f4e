"""Propose a config for a data set: measure its cases, then a training step on this device, and say why."""

import os
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.config.check import check_labels
from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.config.text import parse
from pipeline.dataset.cases import Case
from pipeline.dataset.checks import load_pair
from pipeline.dataset.fingerprint import CaseFingerprint, fingerprint
from pipeline.device import choose
from pipeline.errors import UserError
from pipeline.files import hash_json, read_json, replacing, write_json
from pipeline.formats.dispatch import stamps_of
from pipeline.head import Head
from pipeline.labels import IGNORE, Labels
from pipeline.log import log, table
from pipeline.planning.choice import AS_GIVEN, Choice, many
from pipeline.planning.cost import GIB, remembering
from pipeline.planning.draft import assemble, is_untouched, plain, render, sealed
from pipeline.planning.evidence import Evidence, gather
from pipeline.planning.figures import lines_of
from pipeline.planning.memory import free_memory_bytes
from pipeline.planning.network import CPU, GPU
from pipeline.planning.reasons import network_choices, patch_reason
from pipeline.planning.size import Size, Sizing, Target, Wishes
from pipeline.planning.split import split_choices
from pipeline.planning.window import standard_of, window_of
from pipeline.processes import available_cores, workers_of
from pipeline.stages.data import cases_of, label_key, labels_of
from pipeline.stages.measured import measured_step
from pipeline.work import Outcome, Unit, WorkFolder, run_units

FORMAT = 1  # of the fingerprints' files
SHARE_OF_FREE = 0.8  # the rest is for what else runs, and for validation
STEP_SECONDS = {"cpu": 1.5, "cuda": 1.0}  # a thousand steps in less than half an hour
SAID_ELSEWHERE = ("work", "data.source", "labels")  # and not chosen here
TRIED = {"cpu": 64**3, "cuda": 96**3}  # voxels of the larger of two patches that are measured first
TRIED_ELSEWHERE = 48**3  # of a GPU's network on a CPU
BUSY = 0.5  # load of each core by others, from which on times are no good
LONGEST_TRIAL_S = 10.0  # a step for another device that is expected to take longer here is not tried


def run(config: Config) -> Outcome:
    """Write a commented config, made of all training and validation cases that can be read.

    Test cases are not looked at, and what the config gives stays. Each case is a unit, so that planning again, for
    another device or with other wishes, reads none. Raises UserError where the data set as a whole cannot be planned
    for, no patch fits the memory, or the file that is to be written is there and is the user's own.
    """
    source = config.data.source
    if source is None:
        raise UserError("data.source: not set; expected a data set's folder or CSV file, as in data.source=/my/data.")
    output = config.plan.output or WorkFolder(config.work).root / "plan.yaml"
    check_replaceable(output)
    warn_of_load()
    labels = labels_of(config)
    check_labels(config, labels)
    cases = [case for case in cases_of(config) if case.split != "test"]
    if not cases:
        raise UserError(f"data.source: {source} has no training case, and a plan is made from these alone.")
    outcome, fingerprints = measured_cases(config, cases, labels)
    if fingerprints:
        read = {case.name for case in fingerprints}
        write(output, *propose(config, [case for case in cases if case.name in read], labels, fingerprints))
    return outcome


def check_replaceable(output: Path) -> None:
    """Raise UserError where a file is there that plan did not write, or that was edited since."""
    if output.exists() and not (output.is_file() and is_untouched(output.read_text("utf-8", "replace"))):
        raise UserError(
            f"plan.output: {output} is there and was edited, or not written by plan; expected a new file: give another "
            f"name, such as plan.output={output.with_stem(output.stem + '2')}, or move it away."
        )


def warn_of_load() -> None:
    """Warn where others use the cores: a step then looks slower, and its patch becomes smaller, than it could be."""
    load_of_each = os.getloadavg()[0] / (os.cpu_count() or 1)
    if load_of_each > BUSY:
        log.warning(
            "other programs keep %.0f %% of the cores busy: steps will look slow, and the patch become small; run plan "
            "again when the machine is quiet, or set plan.step_seconds",
            100 * min(1.0, load_of_each),
        )


def measured_cases(config: Config, cases: Sequence[Case], labels: Labels) -> tuple[Outcome, list[CaseFingerprint]]:
    """Take the fingerprint of each case that has none in the work folder; return those that there are, by name."""
    folder = WorkFolder(config.work).root / "plan"
    overlap = config.data.overlap
    units = [unit_of(case, folder, labels, overlap) for case in cases]
    make = partial(make_fingerprint, cases={case.name: case for case in cases}, labels=labels, overlap=overlap)
    workers = workers_of(config.prepare.workers)
    outcome = run_units(folder, units, make, workers=workers, what="plan")
    standing = [unit for unit in units if unit.name not in outcome.failed]
    return outcome, [CaseFingerprint.from_json(read_json(unit.output)) for unit in standing]


def unit_of(case: Case, folder: Path, labels: Labels, overlap: Sequence[str]) -> Unit:
    """Return the unit of a case's fingerprint."""
    files = stamps_of(case.files())
    key = {"format": FORMAT, "labels": label_key(case, labels, overlap), "files": files}
    return Unit(case.name, hash_json(key), folder / "fingerprints" / f"{case.name}.json")


def make_fingerprint(
    unit: Unit, temporary: Path, *, cases: dict[str, Case], labels: Labels, overlap: Sequence[str]
) -> None:
    """Read and check a case, and write its fingerprint."""
    case = cases[unit.name]
    write_json(temporary, fingerprint(case, *load_pair(case, labels, overlap)).to_json())


def propose(
    config: Config, cases: Sequence[Case], labels: Labels, fingerprints: Sequence[CaseFingerprint]
) -> tuple[dict[str, Choice], str]:
    """Return what was chosen, by key, and the text of the file."""
    evidence = gather(fingerprints, labels.names)
    check_foreground(evidence)
    device = choose(config.train.device)
    target = target_of(config, device)
    head = Head(config.head.kind, labels, config.head.threshold)
    measure = partial(measured_step, config=config, head=head)
    size = Sizing(evidence, wishes_of(config), head.channels, target, remembering(measure)).choose()
    present = {case.name: set(case.counts) - {0, IGNORE} for case in fingerprints}
    folds = config.data.folds if "folds" in config.data.model_fields_set else None
    choices = {
        "work": Choice(str(config.work), ""),
        "data.source": Choice(str(config.data.source), ""),
        **split_choices(cases, present, folds, config.seed),
        "labels": Choice(labels_section(labels), "as the data set names them"),
        "prepare.spacing_mm": size.spacing,
        **intensity_choices(config, evidence),
        **size_choices(config, size, target, device),
    }
    given = config.model_dump(mode="json", exclude_unset=True, exclude={"plan"})
    settings, reasons = assemble(choices, given, list(Config.model_fields))
    heading = [
        f"A plan for {config.data.source}, made on {words_for(device)}. Each choice has its reason above it; change "
        "what you like. Test cases were not looked at.",
        "",
        *lines_of(evidence, size.spacing.value),
    ]
    return choices, sealed(render(settings, reasons, heading))


def check_foreground(evidence: Evidence) -> None:
    """Refuse data without a labelled voxel; name the classes that no case has."""
    if not evidence.foreground_histogram.any():
        raise UserError(
            f"labels: none of {many(evidence.cases, 'case')} has a voxel of any class, so there is nothing to learn; "
            "check the label files, and the values under labels."
        )
    lacking = [each.name for each in evidence.classes if not each.cases]
    if lacking:
        log.warning("no case has a voxel of %s: training will refuse to start", ", ".join(lacking))


def wishes_of(config: Config) -> Wishes:
    """Return what the config gives of what is planned."""
    sample, prepare = config.sample, config.prepare
    return Wishes(
        config.net,
        spacing_mm=prepare.spacing_mm if "spacing_mm" in prepare.model_fields_set else None,
        patch_vox=sample.patch_vox if "patch_vox" in sample.model_fields_set else None,
        batch=sample.batch if "batch" in sample.model_fields_set else None,
    )


def target_of(config: Config, device: torch.device) -> Target:
    """Return the limits of the device that is planned for.

    A memory limit on a CPU that the config does not ask for is another device's, and a GPU's: then the seconds of this
    one say nothing, and what it cannot run is predicted only.
    """
    free = SHARE_OF_FREE * free_memory_bytes(device)
    limit = free if config.plan.memory_gb is None else config.plan.memory_gb * GIB
    on_cpu = device.type == "cpu"
    if on_cpu and config.plan.memory_gb is not None and config.train.device == "auto":
        return Target(GPU, limit, config.plan.step_seconds, False, TRIED_ELSEWHERE, free, LONGEST_TRIAL_S)
    seconds = config.plan.step_seconds or STEP_SECONDS[device.type]
    return Target(CPU if on_cpu else GPU, limit, seconds, on_cpu, TRIED[device.type])


def intensity_choices(config: Config, evidence: Evidence) -> dict[str, Choice]:
    """Return window, mean and deviation."""
    given = config.intensity
    window = Choice(given.window_hu, AS_GIVEN) if "window_hu" in given.model_fields_set else window_of(evidence)
    mean, std = standard_of(evidence, window.value, given.gamma)
    return {
        "intensity.window_hu": window,
        "intensity.mean": mean if given.mean is None else Choice(given.mean, AS_GIVEN),
        "intensity.std": std if given.std is None else Choice(given.std, AS_GIVEN),
    }


def size_choices(config: Config, size: Size, target: Target, device: torch.device) -> dict[str, Choice]:
    """Return patch, batch and network."""
    given = "patch_vox" in config.sample.model_fields_set
    reason = patch_reason(size, target, words_for(device), given=given)
    return {
        "sample.patch_vox": Choice(size.trial.patch_vox, reason),
        "sample.batch": Choice(size.trial.batch, size.batch_reason),
        **network_choices(size, config.net.options, target.family.reason),
    }


def labels_section(labels: Labels) -> dict[str, Any]:
    """Return what `labels` of a config says where it says the same; what is as by default is left out."""
    section: dict[str, Any] = {
        name: values[0] if len(values) == 1 else values for name, values in labels.values.items()
    }
    if labels.background != (0,):
        section["background"] = labels.background
    if labels.ignore is not None:
        section["ignore"] = labels.ignore
    if labels.swap:
        section["swap"] = labels.swap
    if labels.regions:
        section["regions"] = {each.name: {"classes": each.classes, "write": each.write} for each in labels.regions}
    return section


def words_for(device: torch.device) -> str:
    """Return a device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"a CPU with {many(available_cores(), 'core')}"


def write(output: Path, choices: Mapping[str, Choice], content: str) -> None:
    """Write the file, once it is known that the pipeline takes it, and show what was chosen.

    A file that says the same stays, with its reasons: a plan that is planned from finds everything given.
    """
    shown = {key: choice.value for key, choice in choices.items() if key not in SAID_ELSEWHERE}
    table("the plan", ("key", "value"), [(key, plain(value)) for key, value in shown.items() if value is not None])
    existed = output.exists()
    if existed and parse(output.read_text("utf-8"), str(output)) == parse(content, "the plan"):
        log.info("%s says the same already and stays as it is", output)
        return
    with replacing(output) as temporary:
        temporary.write_text(content, encoding="utf-8")
        load([str(temporary)])
    log.info("%s with all reasons: %s", "replaced" if existed else "written", output)
    log.info("next: python scripts/prepare.py %s", shlex.quote(str(output)))
