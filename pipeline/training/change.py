"""How far a step moves the weights, told by a part of them."""

import torch
from torch import Tensor, nn

MOST_VALUES = 4096  # of each parameter that are looked at: its first ones


class WeightChange:
    """Remembers a part of a network's weights as they are before a step."""

    def __init__(self, net: nn.Module) -> None:
        self.parts = [beginning(parameter.detach()) for parameter in net.parameters() if parameter.requires_grad]
        self.before = [part.clone() for part in self.parts]

    def share(self) -> float:
        """Return the length of the change since then, divided by that of the weights; 0 where all were 0."""
        change = nn.utils.get_total_norm(torch._foreach_sub(self.parts, self.before))
        length = float(nn.utils.get_total_norm(self.before))
        return float(change) / length if length else 0.0


def beginning(values: Tensor) -> Tensor:
    """Return the first rows of a parameter that hold some thousand values, at least one row: a view, not a copy."""
    if values.ndim == 0 or not len(values):
        return values
    each = max(1, values[0].numel())
    return values[: max(1, MOST_VALUES // each)]
