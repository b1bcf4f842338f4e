"""What the published networks are built of: a convolution, an instance norm and a ReLU."""

from torch import nn

from pipeline.nets.convolution import Convolution
from pipeline.nets.norms import InstanceNorm

LOGITS_STD = 0.01  # first logits near 0: the first loss is near ln(channels)


class ReluBlock(nn.Sequential):
    """A convolution that keeps the size (at stride 1), without bias as the norm has one, a norm and a ReLU in place.

    Float (B, channels_in, x, y, z) -> float (B, channels_out, x, y, z), at least 0. kernel: odd.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(*normed(channels_in, channels_out, kernel, stride), nn.ReLU(inplace=True))


class LastConvolution(Convolution):
    """The convolution that gives raw logits: linear, with a bias, and nothing behind it."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2)


def normed(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution and a norm, for sums and gates that act before the ReLU."""
    convolution = Convolution(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, InstanceNorm(channels_out))


def initialise(module: nn.Module) -> None:
    """Draw a convolution's weights; for `Module.apply`.

    Variance is kept through ReLUs (He 2015), but for the last layer, which starts near 0.
    """
    if not isinstance(module, nn.Conv3d):
        return
    if isinstance(module, LastConvolution):
        nn.init.normal_(module.weight, std=LOGITS_STD)
    else:
        nn.init.kaiming_normal_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
