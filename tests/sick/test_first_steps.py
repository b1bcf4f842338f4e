"""What shows within sixty steps: each disease is made for real, and found by its name and no other."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.losses.comparison import Comparison
from pipeline.losses.loss import Loss
from pipeline.monitor.symptoms import data, gradients, loss, outputs
from pipeline.monitor.symptoms.diagnose import diagnose
from pipeline.sampling.batch import Batch
from tests.sick.bodies import bodies, body

Train = Callable


class Ending(nn.Module):
    """A network, and what it must not end in."""

    def __init__(self, net: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.net, self.activation = net, activation

    def forward(self, image: Tensor) -> Tensor:
        return self.activation(self.net(image))


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.01)], ids=["relu", "leaky"])
def test_an_ending_that_lets_one_sign_through(train: Train, head: str, activation: nn.Module) -> None:
    course = train(f"head.kind={head}", net=lambda built: Ending(built, activation))
    assert course.names == [outputs.ONE_SIGN]


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Softmax(1)], ids=["sigmoid", "softmax"])
def test_probabilities_fed_as_logits(train: Train, head: str, activation: nn.Module) -> None:
    course = train(f"head.kind={head}", net=lambda built: Ending(built, activation))
    assert course.names == [outputs.PROBABILITIES]


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_a_rate_a_thousand_times_too_high(train: Train, head: str) -> None:
    assert train(f"head.kind={head}", "train.lr=5").names == [loss.LR_TOO_HIGH]


def test_labels_with_a_value_that_is_no_class(train: Train) -> None:
    with_38 = body(3, labels=lambda encoded: np.where(encoded == 3, 38, encoded))
    course = train("head.kind=sigmoid", training=[*bodies(3), with_38])
    assert course.names == [data.LABELS_OUTSIDE]
    assert "38" in course.found[0].evidence


def test_labels_scaled_to_fractions(train: Train) -> None:
    def scaled(batch: Batch) -> Batch:
        return replace(batch, labels=batch.labels.float() / 255)

    course = train("head.kind=sigmoid", batch=scaled)
    assert course.names == [data.LABELS_SCALED]
    assert "0.00392" in course.found[0].evidence


class RawDice(Loss):
    """A user's Dice that multiplies logits' probabilities with the class indices themselves."""

    def parts(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        p, t = torch.sigmoid(logits).flatten(1), labels[:, None].expand_as(logits).flatten(1).float() * 10
        return {"dice": 1 - 2 * (p * t).sum(1) / (p.sum(1) + (t > 0).sum(1))}


def test_a_loss_that_turns_negative(train: Train) -> None:
    def raw(built: Loss) -> Loss:
        return RawDice(built.head, {"dice": _unused}, {"dice": 1.0}, built.class_weights)

    assert train("head.kind=sigmoid", loss=raw).names == [loss.NEGATIVE_LOSS]


def _unused(compared: Comparison) -> Tensor:
    raise NotImplementedError


def test_images_that_are_no_numbers(train: Train) -> None:
    def spoilt(batch: Batch) -> Batch:
        bad = batch.draws[0].key[1] == 20
        return replace(batch, image=torch.full_like(batch.image, torch.nan)) if bad else batch

    course = train(batch=spoilt)
    assert course.names == [loss.NON_FINITE_LOSS]
    assert "step 20" in course.found[0].evidence and "doctor data" in course.found[0].cure


class Root(Loss):
    """A user's distance, whose root has no slope where it is 0."""

    def parts(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"dice": logits.sigmoid().flatten(1).mean(1) + (0 * logits).square().flatten(1).sum(1).sqrt()}


def test_gradients_that_are_no_numbers_under_a_loss_that_is_one(train: Train) -> None:
    def root(built: Loss) -> Loss:
        return Root(built.head, {"dice": _unused}, {"dice": 1.0}, built.class_weights)

    dog = train(loss=root).watchdog
    (end,) = dog.first
    assert np.isfinite(end.loss)
    (finding,) = diagnose([end], dog.facts)
    assert finding.name == gradients.NON_FINITE and "step 1" in finding.evidence


class Plain(nn.Module):
    """Seven convolutions without norms whose initial weights are far too large."""

    def __init__(self, channels: int, gain: float) -> None:
        super().__init__()
        ends = [1, *[8] * 7]
        layers = [(nn.Conv3d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise(ends)]
        self.body = nn.Sequential(*[module for pair in layers for module in pair])
        self.last = nn.Conv3d(8, channels, 1)
        for parameter in self.body.parameters():
            parameter.data *= gain

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.body(image))


def test_weights_so_large_that_gradients_explode(train: Train) -> None:
    assert train(net=lambda built: Plain(4, gain=12)).names == [gradients.EXPLODING]


def test_outputs_so_saturated_that_gradients_vanish(train: Train) -> None:
    def certain(built: nn.Module) -> nn.Module:
        last = [module for module in built.modules() if isinstance(module, nn.Conv3d)][-1]
        last.bias.data[0] = 200.0  # all is background, and softmax has no slope there
        return built

    assert train("loss.name=dice", net=certain).names == [gradients.VANISHING]


def test_images_between_0_and_1(train: Train) -> None:
    pictures = bodies(4, hu=lambda image: (image + 1024) / 1500 > 0.75)
    assert train(training=pictures).names == [data.NOT_HU]


def test_images_beyond_the_window(train: Train) -> None:
    course = train(training=bodies(4, hu=lambda image: image + 3000))
    assert course.names == [data.NOT_HU]


def test_batch_norm_at_batch_1(train: Train) -> None:
    options = "net.options={channels: [4, 8], strides: [2], norm: batch}"
    assert train("net.name=monai.UNet", options, "sample.batch=1").names == [gradients.BATCH_NORM]


def test_a_loader_slower_than_the_network(train: Train) -> None:
    small = ("train.steps=50", "sample.batch=1", "sample.patch_vox=[8, 8, 8]")
    course = train(*small, training=bodies(4, delay_s=0.1), quick=True)
    assert course.is_starved and course.names == []
