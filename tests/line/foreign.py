"""A user's own network, as `net.name=tests.line.foreign:Foreign` finds it."""

import os

import torch
from torch import Tensor, nn

FATAL_CALL = 3  # of a training forward pass


class Foreign(nn.Module):
    """Two convolutions, and one that nothing uses.

    disaster: what happens in the third training step: "raise" an error in process 1, or ask for more "memory" than any
    machine has.
    """

    def __init__(self, channels_in: int, channels_out: int, disaster: str = "") -> None:
        super().__init__()
        self.first = nn.Conv3d(channels_in, 8, 3, padding=1)
        self.spare = nn.Conv3d(8, 8, 3, padding=1)
        self.last = nn.Conv3d(8, channels_out, 1)
        self.disaster, self.calls = disaster, 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += self.training
        if self.training and self.calls == FATAL_CALL:
            if self.disaster == "raise" and os.environ["RANK"] == "1":
                raise ValueError("no luck")
            if self.disaster == "memory":
                torch.empty(2**50)
        return self.last(torch.relu(self.first(image)))
