"""The optimiser: which weights decay, and that its memory survives being saved."""

import pytest
import torch
from torch import nn

from pipeline.config.net import NetSection
from pipeline.config.train import TrainSection
from pipeline.nets.registry import build
from pipeline.training.optimise import make_optimiser, optimiser_tensors, restore_optimiser


def take_step(net: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    net(torch.ones(1, 2, 4, 4, 4)).square().mean().backward()
    optimiser.step()


def decaying_names(net: nn.Module) -> set[str]:
    optimiser = make_optimiser(net, TrainSection(weight_decay=0.5))
    groups = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert groups.keys() == {id(parameter) for parameter in net.parameters()}
    assert set(groups.values()) <= {0.0, 0.5}
    return {name for name, parameter in net.named_parameters() if groups[id(parameter)]}


@pytest.mark.parametrize("optimiser_name", ["adamw", "sgd"])
def test_a_restored_optimiser_takes_the_steps_that_the_first_one_takes(optimiser_name: str) -> None:
    torch.manual_seed(0)
    section = TrainSection(optimiser=optimiser_name)
    net = nn.Conv3d(2, 3, 3).to(memory_format=torch.channels_last_3d)
    optimiser = make_optimiser(net, section)
    for _ in range(3):
        take_step(net, optimiser)
    twin = nn.Conv3d(2, 3, 3).to(memory_format=torch.channels_last_3d)
    twin.load_state_dict(net.state_dict())
    other = make_optimiser(twin, section)
    restore_optimiser(twin, other, {name: t.clone() for name, t in optimiser_tensors(net, optimiser).items()})
    for _ in range(2):
        take_step(net, optimiser)
        take_step(twin, other)
    assert torch.equal(net.weight, twin.weight) and torch.equal(net.bias, twin.bias)


def test_the_memory_of_an_optimiser_without_groups_is_taken() -> None:
    net, twin = nn.Conv3d(2, 3, 3), nn.Conv3d(2, 3, 3)
    twin.load_state_dict(net.state_dict())
    before = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0)
    take_step(net, before)
    take_step(twin, other := make_optimiser(twin, TrainSection(lr=1e-3, weight_decay=0.0)))
    other.state.clear()
    restore_optimiser(twin, other, optimiser_tensors(net, before))
    take_step(net, before)
    take_step(twin, other)
    assert torch.equal(net.weight, twin.weight)


def test_sgd_has_the_momentum_that_is_given_and_looks_ahead() -> None:
    # f = w^2 / 2, so the gradient is w. Nesterov: v = 0.5 v + g, w -= 0.1 (g + 0.5 v).
    # w = 1: v = 1, w = 1 - 0.1 * 1.5 = 0.85. Then v = 0.5 + 0.85 = 1.35, w = 0.85 - 0.1 * (0.85 + 0.675) = 0.6975.
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    optimiser = make_optimiser(net, TrainSection(optimiser="sgd", momentum=0.5, lr=0.1, weight_decay=0.0))
    values = []
    for _ in range(2):
        optimiser.zero_grad()
        (net.weight.square().sum() / 2).backward()
        optimiser.step()
        values.append(net.weight.item())
    assert values == pytest.approx([0.85, 0.6975])


@pytest.mark.parametrize("optimiser_name", ["adamw", "sgd"])
def test_without_a_gradient_only_weights_that_decay_move(optimiser_name: str) -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = make_optimiser(net, TrainSection(optimiser=optimiser_name, momentum=0.9, lr=0.1, weight_decay=0.5))
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    factor = 1 - 0.1 * 0.5 * (1 if optimiser_name == "adamw" else 1.9)  # Nesterov's first step is 1 + momentum long
    torch.testing.assert_close(net[0].weight.detach(), factor * before["0.weight"])
    still = [name for name, p in net.named_parameters() if torch.equal(p.detach(), before[name])]
    assert still == ["0.bias", "1.weight", "1.bias"]


def test_embeddings_positions_norms_and_biases_do_not_decay() -> None:
    net = nn.ModuleDict(
        {
            "tokens": nn.Conv3d(1, 4, 2),
            "up": nn.ConvTranspose3d(4, 4, 2, bias=False),
            "places": nn.Embedding(5, 4),
            "attention": nn.MultiheadAttention(4, 2),
            "norm": nn.LayerNorm((4, 4)),
            "slope": nn.PReLU(4),
        }
    )
    net.register_parameter("table", nn.Parameter(torch.zeros(1, 4, 2, 2, 2)))
    expected = {"tokens.weight", "up.weight", "attention.in_proj_weight", "attention.out_proj.weight"}
    assert decaying_names(net) == expected


@pytest.mark.parametrize("name", ["UNet3d", "UCTransNet3d", "TransFuse3d"])
def test_of_the_projects_networks_every_weight_but_norms_and_positions_decays(name: str) -> None:
    net = build(NetSection(name=name), 1, 3, (64, 64, 64))
    norms = {
        f"{place}.weight"
        for place, module in net.named_modules()
        if "Norm" in type(module).__name__ and isinstance(getattr(module, "weight", None), nn.Parameter)
    }
    weights = {name for name, _ in net.named_parameters() if name.endswith("weight")}
    assert decaying_names(net) == weights - norms
