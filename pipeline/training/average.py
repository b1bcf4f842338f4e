"""A moving average of the weights: calmer than those that are trained, and often better."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of a module's parameters, which starts as what they are when it is made.

    Update n multiplies the average by d = min(decay, (1 + n) / (10 + n)) and adds 1 - d of the trained weights. It so
    spans the last ninth of the steps, which forgets the start, and never more than 1 / (1 - decay) steps.
    Buffers, such as the running statistics of a batch norm, are those of the trained network. net: the module inside,
    where it was compiled or wrapped for several devices. The average has dtype (float32), device and layout of each
    parameter. Source: Polyak and Juditsky 1992, with the decay of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self._trained = dict(net.named_parameters())
        self._averaged = {name: weight.detach().clone() for name, weight in self._trained.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self._averaged.values()), list(self._trained.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network the averaged weights within `with`, and the trained ones back after it, bit for bit.

        Values change places and not tensors, one parameter after the other: whoever holds a parameter or its address
        (an optimiser, DistributedDataParallel, a compiled graph) sees them, and no second copy of the network is made.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._trained.items():
            trained = weight.clone()
            weight.copy_(self._averaged[name])
            self._averaged[name].copy_(trained)

    def tensors(self) -> dict[str, Tensor]:
        """Return the averaged weights by the parameter's name, as they are (no copies); not within `applied`."""
        return dict(self._averaged)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned, on any device."""
        for name, averaged in self._averaged.items():
            averaged.copy_(tensors[name])
