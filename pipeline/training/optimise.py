"""The optimiser and the learning rate of each step."""

from math import cos, pi

import torch
from torch import Tensor, nn

from pipeline.config.train import TrainSection


def make_optimiser(net: nn.Module, train: TrainSection) -> torch.optim.Optimizer:
    """Return AdamW over all parameters (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(net.parameters(), lr=train.lr, weight_decay=train.weight_decay)


def learning_rate(step: int, steps: int | None, train: TrainSection) -> float:
    """Return the rate of a step, counted from 1: linear warm-up, then constant or a half cosine that ends near 0.

    steps: length of the run; None while it is not known yet, which holds the rate after the warm-up.
    """
    warmup_steps = train.warmup(steps)
    risen = min(1.0, step / (warmup_steps + 1))
    if train.schedule == "constant" or steps is None:
        return train.lr * risen
    done = max(0, step - 1 - warmup_steps) / max(1, steps - warmup_steps)
    return train.lr * risen * 0.5 * (1 + cos(pi * done))


def optimiser_tensors(net: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's memory of every parameter, named `<parameter>/<what>`."""
    return {
        f"{name}/{what}": value.detach()
        for name, parameter in net.named_parameters()
        for what, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(net: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give the optimiser back what `optimiser_tensors` returned.

    Moments take device and memory layout of their parameter; the count of steps stays on the CPU, where AdamW reads it.
    """
    parameters = dict(net.named_parameters())
    for key, value in tensors.items():
        name, what = key.rsplit("/", 1)
        parameter = parameters[name]
        kept = value.clone() if what == "step" else torch.empty_like(parameter).copy_(value)
        optimiser.state[parameter][what] = kept
