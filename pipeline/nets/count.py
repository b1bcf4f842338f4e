"""How much a network computes."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.nets.trace import noise
from pipeline.volume.grid import Int3

OPERATIONS = 2  # a multiplication and an addition, which is what torch counts


def multiply_adds(network: nn.Module, size_vox: Int3, channels_in: int) -> int:
    """Return the multiply-adds of predicting one sample of `size_vox` voxels: convolutions, matrix products, attention.

    The network is run, on the device where it is, and left in eval mode. torch counts (`FlopCounterMode`); attention is
    taken apart into matrix products for it, as torch does not count the fused one on a CPU. Norms, activations and
    interpolation are left out, as is usual. Raises what the network raises.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        network.eval()(noise(network, 1, channels_in, size_vox))
    return int(counter.get_total_flops()) // OPERATIONS
