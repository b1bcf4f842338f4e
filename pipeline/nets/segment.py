"""What gradient checkpointing runs again in the backward pass."""

from typing import Literal, NamedTuple

from torch import nn

Mode = Literal["blocks", "deep"]


class Segment(NamedTuple):
    """A method of a module, of which the inputs are kept in place of all that it computes on the way.

    It takes and returns tensors, or lists of them, and leaves nothing behind but in its module's buffers. Segments may
    lie within others.
    """

    module: nn.Module
    method: str = "forward"
