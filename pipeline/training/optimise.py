"""The optimiser: what it changes how, and its memory by name."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.config.train import TrainSection

# Norms, biases, position tables and embeddings are left out: a scale or a place pulled to 0 says nothing any more.
DECAYED = {
    nn.Conv1d: "weight", nn.Conv2d: "weight", nn.Conv3d: "weight", nn.ConvTranspose1d: "weight",
    nn.ConvTranspose2d: "weight", nn.ConvTranspose3d: "weight", nn.Linear: "weight",
    nn.MultiheadAttention: "in_proj_weight",
}  # fmt: skip


def make_optimiser(net: nn.Module, train: TrainSection) -> torch.optim.Optimizer:
    """Return the optimiser of `train.optimiser` over all parameters, with weight decay on `decayed` ones alone.

    adamw: decay apart from the gradient (Loshchilov and Hutter 2019). sgd: Nesterov's momentum (Sutskever et al. 2013)
    and decay within the gradient, as in nnU-Net.
    """
    weights = decayed(net)
    groups = [
        {"params": [p for p in net.parameters() if id(p) in weights], "weight_decay": train.weight_decay},
        {"params": [p for p in net.parameters() if id(p) not in weights], "weight_decay": 0.0},
    ]
    if train.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum, nesterov=True)
    return torch.optim.AdamW(groups, lr=train.lr)


def decayed(net: nn.Module) -> set[int]:
    """Return the ids of the parameters that decay: weights of convolutions and linear layers, attention's included.

    Source: He et al. 2019, bag of tricks.
    """
    found = (
        module._parameters.get(name)
        for module in net.modules()
        for kind, name in DECAYED.items()
        if isinstance(module, kind)
    )
    return {id(weight) for weight in found if weight is not None}


def optimiser_tensors(net: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's memory of every parameter, named `<parameter>/<what>`."""
    return {
        f"{name}/{what}": value.detach()
        for name, parameter in net.named_parameters()
        for what, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(net: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give the optimiser back what `optimiser_tensors` returned.

    Moments take device and memory layout of their parameter; the count of steps stays on the CPU, where AdamW reads it.
    """
    parameters = dict(net.named_parameters())
    for key, value in tensors.items():
        name, what = key.rsplit("/", 1)
        parameter = parameters[name]
        kept = value.clone() if what == "step" else torch.empty_like(parameter).copy_(value)
        optimiser.state[parameter][what] = kept
