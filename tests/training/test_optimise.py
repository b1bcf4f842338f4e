"""The learning rate of each step, and the optimiser's memory."""

import pytest
import torch
from torch import nn

from pipeline.config.train import TrainSection
from pipeline.training.optimise import learning_rate, make_optimiser, optimiser_tensors, restore_optimiser


def test_the_rate_rises_over_the_warm_up_in_equal_parts() -> None:
    train = TrainSection(lr=0.5, warmup_steps=4, schedule="constant")
    rates = [learning_rate(step, 100, train) for step in range(1, 7)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])


def test_the_cosine_is_at_half_the_rate_in_the_middle_and_near_zero_at_the_end() -> None:
    train = TrainSection(lr=0.2, warmup_steps=0, schedule="cosine")
    assert learning_rate(1, 100, train) == pytest.approx(0.2)
    assert learning_rate(51, 100, train) == pytest.approx(0.1)
    assert 0 < learning_rate(100, 100, train) < 0.2 * 0.001


def test_a_length_that_is_not_known_yet_holds_the_rate() -> None:
    assert learning_rate(15, None, TrainSection(lr=0.2, warmup_steps=10)) == 0.2


def test_a_restored_optimiser_takes_the_step_that_the_first_one_takes() -> None:
    torch.manual_seed(0)
    net = nn.Conv3d(2, 3, 3).to(memory_format=torch.channels_last_3d)
    optimiser = make_optimiser(net, TrainSection())

    def take_step(net: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        net(torch.ones(1, 2, 4, 4, 4)).square().mean().backward()
        optimiser.step()

    for _ in range(3):
        take_step(net, optimiser)
    twin = nn.Conv3d(2, 3, 3).to(memory_format=torch.channels_last_3d)
    twin.load_state_dict(net.state_dict())
    other = make_optimiser(twin, TrainSection())
    restore_optimiser(twin, other, optimiser_tensors(net, optimiser))
    take_step(net, optimiser)
    take_step(twin, other)
    assert torch.equal(net.weight, twin.weight) and torch.equal(net.bias, twin.bias)
