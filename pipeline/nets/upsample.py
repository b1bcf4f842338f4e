"""Features from a coarser stage at the resolution of a finer one."""

from torch import Tensor, nn
from torch.nn import functional

from pipeline.device import memory_format
from pipeline.volume.grid import Int3

UPSAMPLINGS = ("nearest", "linear", "transposed")


class Upsampling(nn.Module):
    """Bring features from one stage to the resolution and channels of the next finer one.

    Float (B, channels_in, x, y, z) -> (B, channels_out, x * stride, ...). kind: one of UPSAMPLINGS, as in `UNet3d`.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: Int3, kind: str) -> None:
        super().__init__()
        self.factor = tuple(float(step) for step in stride)
        self.mode = {"nearest": "nearest", "linear": "trilinear"}.get(kind)
        if self.mode is None:
            self.convolution: nn.Module = nn.ConvTranspose3d(channels_in, channels_out, stride, stride)
        else:
            self.convolution = nn.Conv3d(channels_in, channels_out, 1)

    def forward(self, features: Tensor) -> Tensor:
        features = self.convolution(features)
        if self.mode is None:
            return features
        # On one thread a convolution of size 1 leaves channels last; put right here, the layout costs an eighth.
        features = features.contiguous(memory_format=memory_format(features.device))
        return functional.interpolate(features, scale_factor=self.factor, mode=self.mode)


def crop(features: Tensor, skip: Tensor) -> Tensor:
    """Cut what reaches beyond the skip at the far end of each axis."""
    x, y, z = skip.shape[2:]
    return features[:, :, :x, :y, :z]
