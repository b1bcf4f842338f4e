"""What the stages of a convolutional network are made of."""

from torch import Tensor, nn

from pipeline.nets.convolution import Convolution
from pipeline.nets.norms import normalisation
from pipeline.volume.grid import Int3

NEGATIVE_SLOPE = 0.01
BLOCKS = ("plain", "residual")
ONE: Int3 = (1, 1, 1)
THREE: Int3 = (3, 3, 3)
BRIDGED = 2  # convolutions that a shortcut leads around


class Stage(nn.Sequential):
    """Convolutions at one resolution, each with norm and activation; the first one may stride.

    Float (B, channels_in, x, y, z) -> (B, channels_out, ceil(x / stride), ...).

    block: "plain", or "residual": a shortcut around every two convolutions, and around an odd one at the end.
    dropout: the probability with which a whole channel of the result is 0 in training (Tompson 2015). It stands
        behind the last activation, as a norm behind it would undo what is left being scaled up.
    """

    def __init__(
        self, channels_in: int, channels_out: int, convolutions: int, norm: str,
        stride: Int3 = ONE, *, kernel: Int3 = THREE, block: str = "plain", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        parts: list[nn.Module] = []
        bridged = BRIDGED if block == "residual" else 1
        for done in range(0, convolutions, bridged):
            before, step = (channels_in, stride) if done == 0 else (channels_out, ONE)
            if block == "residual":
                count = min(bridged, convolutions - done)
                parts.append(ResidualBlock(before, channels_out, count, norm, step, kernel))
            else:
                parts.append(Block(before, channels_out, norm, step, kernel))
        if dropout > 0:
            parts.append(nn.Dropout3d(dropout))
        super().__init__(*parts)


class Block(nn.Sequential):
    """A convolution without bias (the norm has one), a norm and an activation in place."""

    def __init__(
        self, channels_in: int, channels_out: int, norm: str, stride: Int3 = ONE, kernel: Int3 = THREE
    ) -> None:
        super().__init__(*convolved(channels_in, channels_out, norm, stride, kernel), activation())


class ResidualBlock(nn.Module):
    """Convolutions with a shortcut around them, and the activation behind the sum (He 2016).

    Where the shape changes, the shortcut is an average over each stride, so that no voxel is left unread (ResNet-D; He
    2019), and a 1x1x1 convolution. Averages at the far end are over the voxels that there are. There is no norm, as an
    instance norm of a CT's one channel would take the level of its HU away.
    """

    def __init__(
        self, channels_in: int, channels_out: int, convolutions: int, norm: str, stride: Int3, kernel: Int3
    ) -> None:
        super().__init__()
        first = [Block(channels_in, channels_out, norm, stride, kernel)] if convolutions == BRIDGED else []
        before, step = (channels_out, ONE) if first else (channels_in, stride)
        self.body = nn.Sequential(*first, *convolved(before, channels_out, norm, step, kernel))
        shortcut: list[nn.Module] = []
        if stride != ONE:
            shortcut.append(nn.AvgPool3d(stride, stride, ceil_mode=True))  # ceil: the size that the body gives
        if stride != ONE or channels_in != channels_out:
            shortcut.append(nn.Conv3d(channels_in, channels_out, 1, bias=False))  # the body's norm has one
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = activation()

    def forward(self, features: Tensor) -> Tensor:
        return self.activation(self.body(features) + self.shortcut(features))


def convolved(channels_in: int, channels_out: int, norm: str, stride: Int3, kernel: Int3) -> list[nn.Module]:
    """Return a convolution that turns n voxels into ceil(n / stride), and its norm, which has the bias of both."""
    x, y, z = (size // 2 for size in kernel)
    convolution = Convolution(channels_in, channels_out, kernel, stride, padding=(x, y, z), bias=False)
    return [convolution, normalisation(norm, channels_out)]


def activation() -> nn.Module:
    """Return a leaky ReLU in place: no norm needs what it gave to compute its gradient."""
    return nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)


def initialise(module: nn.Module) -> None:
    """Draw a convolution's weights so that variance is kept through leaky ReLUs (He 2015); for `Module.apply`."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
