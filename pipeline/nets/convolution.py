"""A 3D convolution that is right and quick on a CPU at every size and in every dtype."""

import torch
from torch import Tensor, nn

NATIVE_UP_TO = 20480  # channels times x times y of one sample that torch computes without oneDNN
NO_PADDING = (0, 0, 0)


class Convolution(nn.Conv3d):
    """A 3D convolution that keeps clear of two weak points of torch on a CPU (torch 2.13).

    Where its kernel is longer than the first spatial axis it is computed in float32: oneDNN's weight gradient in
    bfloat16, channels last, reads memory that nobody wrote there, and is wrong by its own size or more, at times NaN.

    A small map of one sample alone is computed as if there were two: in float32 torch has a kernel of its own for it,
    which takes two to seven times as long as oneDNN's for two, and rounds otherwise. A 1x1x1 kernel has neither.
    """

    def forward(self, features: Tensor) -> Tensor:
        if features.device.type != "cpu":
            return super().forward(features)
        if features.shape[2] < self.kernel_size[0]:
            with torch.autocast("cpu", enabled=False):
                return self._paired(features.to(self.weight.dtype))
        return self._paired(features)

    def _paired(self, features: Tensor) -> Tensor:
        native = len(features) == 1 and features.shape[1:4].numel() <= NATIVE_UP_TO and max(self.kernel_size) > 1
        if not native or torch.is_autocast_enabled("cpu") or features.dtype != torch.float32:
            return super().forward(features)
        return super().forward(torch.cat([features, features]))[:1]


def guard(module: nn.Module) -> None:
    """Let the plain convolutions of a network that others wrote be `Convolution`s in place; its state dict stays."""
    for part in module.modules():
        if type(part) is nn.Conv3d and part.groups == 1 and part.dilation == (1, 1, 1):
            part.__class__ = Convolution


def right_in_cpu_bfloat16(module: nn.Module) -> bool:
    """True where no convolution can meet the weak point of bfloat16 that `Convolution` keeps clear of.

    Without padding a kernel is never longer than its axis. A network that has no layers of convolution may call
    torch's functions, which nothing guards.
    """
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv3d)]
    guarded = [isinstance(part, Convolution) or part.padding == NO_PADDING for part in convolutions]
    return bool(guarded) and all(guarded)
