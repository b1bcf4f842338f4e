import math

import pytest
import torch
from torch import nn

from pipeline.nets.blocks import initialise
from pipeline.nets.gate import AttentionGate, filled_up


def gate_of(skip_weight, features_weight, bias, weight, offset, stride=(2, 1, 1)):
    """A gate of one channel throughout: skip * sigmoid(weight * relu(A skip + B features + b) + offset)."""
    gate = AttentionGate(1, 1, stride)
    values = (gate.of_skip.weight, skip_weight), (gate.of_features.weight, features_weight)
    for parameter, value in (*values, (gate.of_features.bias, bias), (gate.weight.weight, weight)):
        nn.init.constant_(parameter, value)
    nn.init.constant_(gate.weight.bias, offset)
    return gate


def line(*values):
    return torch.tensor(values).view(1, 1, -1, 1, 1)


def sigmoid(number):
    return 1 / (1 + math.exp(-number))


def test_weights_are_those_derived_by_hand():
    gate = gate_of(skip_weight=0.5, features_weight=2.0, bias=1.0, weight=0.25, offset=-1.0)
    # below: relu(0.5 * (1 + 3) + 2 * 1 + 1) = 5 and relu(0.5 * (2 + 2) + 2 * -4 + 1) = 0
    low, high = sigmoid(-1), sigmoid(0.25)
    shares = (high, 0.75 * high + 0.25 * low, 0.25 * high + 0.75 * low, low)
    expected = [value * share for value, share in zip((1, 3, 2, 2), shares, strict=True)]
    assert gate(line(1.0, 3.0, 2.0, 2.0), line(1.0, -4.0)).flatten().tolist() == pytest.approx(expected)


def test_an_axis_that_is_no_multiple_of_the_stride_counts_nothing_beyond_its_end():
    gate = gate_of(skip_weight=1.0, features_weight=0.0, bias=0.0, weight=1.0, offset=0.0)
    high, low = sigmoid(4), sigmoid(2)  # of 1 + 3 and of 2 + nothing
    expected = [1 * high, 3 * (0.75 * high + 0.25 * low), 2 * (0.25 * high + 0.75 * low)]
    assert gate(line(1.0, 3.0, 2.0), line(0.0, 0.0)).flatten().tolist() == pytest.approx(expected)


def test_gates_begin_open():
    torch.manual_seed(0)
    gate = AttentionGate(8, 16, (2, 2, 2))
    gate.apply(initialise)
    gate.open()
    skip = torch.rand(2, 8, 6, 6, 6) + 0.1
    shares = gate(skip, torch.randn(2, 16, 3, 3, 3)).detach() / skip
    assert float(shares.min()) > 0.9
    assert float(shares.max()) < 1
    assert (shares - shares[:, :1]).abs().max() < 1e-6  # one weight a voxel, for all channels


def test_gates_learn_from_skip_and_features():
    gate = AttentionGate(4, 6, (2, 2, 2))
    gate(torch.randn(2, 4, 5, 6, 7), torch.randn(2, 6, 3, 3, 4)).square().mean().backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in gate.parameters())


def test_features_that_fit_are_not_copied():
    features = torch.ones(1, 1, 4, 3, 2)
    assert filled_up(features, (2, 3, 1)) is features
    assert filled_up(features, (3, 2, 2)).shape == (1, 1, 6, 4, 2)
    assert float(filled_up(features, (3, 2, 2)).sum()) == 24
