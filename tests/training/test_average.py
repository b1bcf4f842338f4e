"""The averaged weights: by hand, against torch's own, exchanged and put back, saved and restored."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.training.average import Average


def make_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.BatchNorm3d(3), nn.Conv3d(3, 2, 1)).to(
        memory_format=torch.channels_last_3d
    )


def train_step(net: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    torch.manual_seed(step)
    optimiser.zero_grad()
    net(torch.randn(2, 1, 4, 4, 4)).square().mean().backward()
    optimiser.step()


def copy_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_early_updates_forget_the_start_and_late_ones_take_little() -> None:
    # n = 1: d = 2 / 11, 0 * 2 / 11 + 11 * 9 / 11 = 9. n = 2: d = 3 / 12, 9 / 4 + 13 * 3 / 4 = 12. Later d is 0.5.
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    average = Average(net, decay=0.5)
    values = []
    for step, weight in ((1, 11.0), (2, 13.0), (100, 14.0), (101, 21.0)):
        nn.init.constant_(net.weight, weight)
        average.update(step)
        values.append(average.tensors()["weight"].item())
    assert values == pytest.approx([9, 12, 13, 17])


def test_torch_averages_to_the_same_bits_once_the_decay_counts() -> None:
    net = make_net()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    average = Average(net, decay=0.75)
    oracle = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    oracle.update_parameters(net)  # which takes the first weights as they are
    for step in range(26, 34):  # (1 + 26) / (10 + 26) = 0.75
        train_step(net, optimiser, step)
        average.update(step)
        oracle.update_parameters(net)
    expected = dict(oracle.module.named_parameters())
    assert same(average.tensors(), {name: weight.detach() for name, weight in expected.items()})


def test_the_averaged_weights_are_lent_to_the_same_parameters_and_the_trained_ones_come_back() -> None:
    net = make_net()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    average = Average(net, decay=0.9)
    for step in (1, 2, 3):
        train_step(net, optimiser, step)
        average.update(step)
    trained, addresses = copy_of(net), [weight.data_ptr() for weight in net.parameters()]
    averaged = {name: value.clone() for name, value in average.tensors().items()}
    with average.applied():
        lent = copy_of(net)
        assert addresses == [weight.data_ptr() for weight in net.parameters()]
        assert net[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert same({name: lent[name] for name in averaged}, averaged)
    assert not torch.equal(lent["0.weight"], trained["0.weight"])
    buffers = ("1.running_mean", "1.running_var", "1.num_batches_tracked")
    assert all(torch.equal(lent[name], trained[name]) for name in buffers)
    assert same(copy_of(net), trained)
    assert same(average.tensors(), averaged)


def test_the_trained_weights_come_back_when_a_validation_is_interrupted() -> None:
    net = make_net()
    average = Average(net, decay=0.9)
    nn.init.ones_(net[2].weight)
    trained = copy_of(net)
    with pytest.raises(KeyboardInterrupt), average.applied():
        raise KeyboardInterrupt
    assert same(copy_of(net), trained)


def test_training_is_the_same_with_an_average_that_is_lent_in_between() -> None:
    ends = []
    for averaging in (False, True):
        net = make_net()
        optimiser = torch.optim.AdamW(net.parameters(), lr=0.1)
        average = Average(net, decay=0.9)
        for step in range(1, 6):
            train_step(net, optimiser, step)
            if averaging:
                average.update(step)
                with average.applied(), torch.no_grad():
                    net.eval()(torch.ones(1, 1, 4, 4, 4))
                net.train()
        ends.append(copy_of(net))
    assert same(*ends)


def test_a_restored_average_goes_on_to_the_same_bits() -> None:
    def run(average: Average, net: nn.Module, steps: range) -> None:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in steps:
            train_step(net, optimiser, step)
            average.update(step)

    net = make_net()
    average = Average(net, decay=0.9)
    run(average, net, range(1, 4))
    saved = {name: value.clone(memory_format=torch.contiguous_format) for name, value in average.tensors().items()}
    twin = make_net()
    twin.load_state_dict(net.state_dict())
    other = Average(twin, decay=0.9)
    other.restore(saved)
    run(average, net, range(4, 7))
    run(other, twin, range(4, 7))
    assert same(average.tensors(), other.tensors())
