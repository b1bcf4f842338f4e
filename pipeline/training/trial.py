"""Is mixed precision faster here? One trial tells."""

import copy
import time

import torch
from torch import nn

from pipeline.losses.loss import Loss
from pipeline.sampling.loader import Batch
from pipeline.training.step import Step

TIMED_STEPS = 3


def trial_seconds(net: nn.Module, loss: Loss, batch: Batch, device: torch.device, amp: torch.dtype | None) -> float:
    """Return the seconds of one training step of a copy of `net` with this type, the fastest of three after one more."""
    twin = copy.deepcopy(net)
    step = Step(twin, loss, torch.optim.AdamW(twin.parameters(), lr=0.0), device=device, amp=amp, clip=1.0)
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        step(0, batch, lr=0.0)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])
