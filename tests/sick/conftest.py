"""A real training of some seconds, healthy or spoilt on purpose, and what the rules say of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.losses.build import build as build_loss
from pipeline.losses.loss import Loss
from pipeline.model import ModelFacts
from pipeline.monitor.checkup import Checkup
from pipeline.monitor.symptoms import data
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.watchdog import Watchdog
from pipeline.nets.registry import build
from pipeline.sampling.batch import Batch
from pipeline.sampling.index import build_index
from pipeline.sampling.loader import batches
from pipeline.stages.run_facts import run_facts
from pipeline.training.loop import Loop
from pipeline.training.optimise import make_optimiser
from pipeline.training.recorder import Recorder
from pipeline.training.step import Step
from pipeline.training.validate import validate
from pipeline.volume.intensity import Intensity, standardisation
from tests.sick.bodies import LABELS, Body, bodies

CPU = torch.device("cpu")
WINDOW_HU = (-200.0, 400.0)
SETTINGS = (
    "prepare.spacing_mm=[2, 2, 2]", "sample.patch_vox=[16, 16, 16]", "augment.preset=none", "sample.workers=0",
    "net.options={channels: [4, 8]}", "train.steps=60", "train.lr=5e-3", "train.validate_every_steps=60",
    "train.amp=off", "infer.overlap=0.25", "train.log_every_steps=5",
)  # fmt: skip


class Pointwise(nn.Sequential):
    """A network that sees one voxel at a time: quick, and enough where each organ has its own HU."""

    def __init__(self, channels_out: int) -> None:
        super().__init__(
            nn.Conv3d(1, 16, 1), nn.ReLU(), nn.Conv3d(16, 16, 1), nn.ReLU(), nn.Conv3d(16, channels_out, 1)
        )


@dataclass(frozen=True)
class Course:
    """What the rules said of a run: each disease once, and what its checkups hold.

    names leaves out a starved loop: how quickly batches are made beside a network this small is a matter of what else
    the machine does.
    """

    found: list[Finding]
    watchdog: Watchdog
    checkups: list[Checkup]

    @property
    def names(self) -> list[str]:
        return [finding.name for finding in self.found if finding.name != data.STARVED]

    @property
    def is_starved(self) -> bool:
        return any(finding.name == data.STARVED for finding in self.found)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Course]:
    """Return a function that trains and returns the course of the run.

    net: from the one that the config builds to the one that is trained, past the door. batch: from each batch to the
    one that the step sees. loss: from the one that the config builds to the one that is minimised. quick: train
    `Pointwise` instead of the config's network.
    """

    def run(
        *overrides: str, net: Callable[[nn.Module], nn.Module] = lambda built: built,
        batch: Callable[[Batch], Batch] = lambda made: made, loss: Callable[[Loss], Loss] = lambda built: built,
        training: Sequence[Body] | None = None, held_out: Sequence[Body] = (), labels: Labels = LABELS,
        quick: bool = False,
    ) -> Course:  # fmt: skip
        config = load([f"work={tmp_path}", *SETTINGS, *overrides])
        training = bodies(4) if training is None else training
        head = Head(config.head.kind, labels)
        torch.manual_seed(config.seed)
        trained = Pointwise(head.channels) if quick else build(config.net, 1, head.channels, config.sample.patch_vox)
        trained = net(trained)
        made = loss(build_loss(config.loss, head, config.net.head_weights))
        recorder = make_recorder(config, head, trained, made, training, tmp_path / "run")
        loop = make_loop(config, head, trained, made, training, held_out, recorder, batch)
        try:
            loop.run()
        except UserError:  # the run diverged, which is what some are here for
            pass
        finally:
            recorder.close()
        return Course(recorder.watchdog.findings, recorder.watchdog, recorder.watchdog.checkups)

    return run


def make_recorder(
    config: Config, head: Head, net: nn.Module, loss: Loss, training: Sequence[Body], folder: Path
) -> Recorder:
    facts = run_facts(config, head, net, loss.terms, training)
    names = [case.name for case in training]
    every = config.train.log_every_steps
    return Recorder(folder, head, loss.terms, names, CPU, facts=facts, every=every, after_step=0)


def make_loop(
    config: Config, head: Head, net: nn.Module, loss: Loss, training: Sequence[Body], held_out: Sequence[Body],
    recorder: Recorder, change: Callable[[Batch], Batch],
) -> Loop:  # fmt: skip
    mean, std = standardisation([case.histogram for case in training], WINDOW_HU, 1.0)
    intensity = Intensity(WINDOW_HU, mean=mean, std=std)
    model = ModelFacts(
        head=head, labels=head.labels, spacing_mm=config.prepare.spacing_mm, intensity=intensity,
        patch_vox=config.sample.patch_vox, net=config.net, provenance={},
    )  # fmt: skip
    index = build_index(training, head, config.augment.mirror)

    def spoilt(first: int, last: int) -> Iterator[Batch]:
        return map(change, batches(index, config.sample, config.augment, intensity, config.seed, first, last, 0))

    step = Step(net, loss, make_optimiser(net, config.train), device=CPU, amp=None, clip=config.train.clip)
    return Loop(
        step, config.train, config.seed, recorder.table.path.parent / "state", recorder, batches=spoilt,
        validate=partial(validate, net, held_out, model, config.infer, CPU) if held_out else None,
        keep=lambda step, dice: None,
    )  # fmt: skip
