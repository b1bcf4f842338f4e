"""From windows to raw logits: the network, and where it is asked for the mean over its mirror images."""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor, nn

from pipeline.config.infer import InferSection
from pipeline.device import amp_dtype, memory_format, memory_told
from pipeline.head import Head

Predict = Callable[[Tensor], Tensor]

TOO_LARGE = "set infer.windows=1, or use infer.device=cpu"
AXES = "xyz"
FIRST_AXIS = 2  # of x in (n, channel, x, y, z)


def predictor(net: nn.Module, head: Head, infer: InferSection, device: torch.device) -> Predict:
    """Return a function from windows (n, 1, x, y, z), float32 on the CPU, to raw logits (n, C, x, y, z) on `device`.

    The network is put into eval mode. With `infer.mirror` the probabilities of every mirror image of a window, mirrored
    back and with left and right classes exchanged where x is among the axes, are averaged and taken back to logits.
    Raises UserError where a region of the head has no partner to be exchanged with.
    """
    amp = amp_dtype(infer.amp, device, key="infer.amp")
    layout = memory_format(device)
    net.eval()

    @torch.inference_mode()
    def predict(windows: Tensor) -> Tensor:
        with memory_told(TOO_LARGE), torch.autocast(device.type, amp, enabled=amp is not None):
            return net(windows.to(device, memory_format=layout))

    return mirrored(predict, head, infer.mirror) if infer.mirror else predict


def mirrored(predict: Predict, head: Head, axes: tuple[str, ...]) -> Predict:
    """Return the mean of `predict` over every combination of mirrored `axes`: twice the time for each axis."""
    swapped = list(head.swapped_channels) if "x" in axes else []
    images = [group for count in range(len(axes) + 1) for group in combinations(sorted(set(axes)), count)]

    @torch.inference_mode()
    def averaged(windows: Tensor) -> Tensor:
        total = torch.zeros(())
        for group in images:
            flips = [FIRST_AXIS + AXES.index(axis) for axis in group]
            probability = head.probability(predict(windows.flip(flips))).flip(flips)
            total = total.to(probability.device) + (probability[:, swapped] if "x" in group else probability)
        return head.logits(total / len(images))

    return averaged
