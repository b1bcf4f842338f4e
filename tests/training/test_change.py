"""How far a step moves the weights."""

import pytest
import torch
from torch import nn

from pipeline.training.change import MOST_VALUES, WeightChange


def test_the_change_is_told_relative_to_the_weights_before() -> None:
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, 0.0]]))
        net.bias.fill_(4.0)
    change = WeightChange(net)
    with torch.no_grad():
        net.weight += torch.tensor([[0.3, 0.0]])
        net.bias += 0.4
    assert change.share() == pytest.approx(0.5 / 5.0)  # lengths of (0.3, 0.4) and (3, 4)


def test_frozen_and_untouched_weights_do_not_move() -> None:
    net = nn.Linear(2, 1).requires_grad_(False)
    net.scale = nn.Parameter(torch.tensor(2.0))
    change = WeightChange(net)
    with torch.no_grad():
        net.weight += 1.0
    assert change.share() == 0.0


def test_weights_of_nothing_but_zeros_have_no_share() -> None:
    net = nn.Linear(2, 1)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    assert WeightChange(net).share() == 0.0


def test_a_large_parameter_is_looked_at_in_part() -> None:
    net = nn.Conv3d(64, 256, 3)
    change = WeightChange(net)
    assert sum(part.numel() for part in change.before) == 64 * 27 * (MOST_VALUES // (64 * 27)) + 256
    assert all(part.data_ptr() == whole.data_ptr() for part, whole in zip(change.parts, net.parameters(), strict=True))
