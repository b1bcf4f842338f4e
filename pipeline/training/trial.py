"""Is mixed precision faster here? A trial tells."""

import copy
import functools
import time
from collections.abc import Callable
from math import inf

import torch
from torch import nn

from pipeline.log import log
from pipeline.losses.loss import Loss
from pipeline.sampling.batch import Batch
from pipeline.training.step import Diverged, Step


class Trial:
    """Times training steps of copies of a network, one for each numeric type; the network stays as it is.

    Nothing is made or copied before a type is tried: where the type is given, or the device decides it, no trial is.
    make: gives the batch, of as many patches as a forward pass of the run has.
    """

    def __init__(self, net: nn.Module, loss: Loss, make: Callable[[], Batch], device: torch.device) -> None:
        self.net, self.loss, self.device = net, loss, device
        self.batch = functools.cache(make)
        self.steps: dict[torch.dtype | None, Step] = {}

    def __call__(self, amp: torch.dtype | None) -> float:
        """Return the seconds of one step, infinity where its loss or gradients are not finite."""
        try:
            return self._seconds(amp)
        except Diverged:
            log.info("trial: a step in %s gave numbers that are not finite", amp or torch.float32)
            return inf

    def _seconds(self, amp: torch.dtype | None) -> float:
        """Return the seconds of one step; the first one in a type, which sets up its kernels, is made twice."""
        if amp not in self.steps:
            net = copy.deepcopy(self.net)
            optimiser = torch.optim.AdamW(net.parameters(), lr=0.0)
            self.steps[amp] = Step(net, self.loss, optimiser, device=self.device, amp=amp, clip=1.0)
            self.steps[amp](0, self.batch(), lr=0.0)
        began = time.perf_counter()
        self.steps[amp](0, self.batch(), lr=0.0)
        return time.perf_counter() - began
