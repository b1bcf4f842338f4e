"""The project's own U-Net: plain, quick on a CPU, for patches of any size and spacing."""

from collections.abc import Sequence
from math import gcd, prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.volume.grid import Int3

NEGATIVE_SLOPE = 0.01
GROUPS = 8
NORMS = ("instance", "group")
UPSAMPLINGS = ("nearest", "linear", "transposed")


class UNet3d(nn.Module):
    """U-Net (Ronneberger 2015; Çiçek 2016) of strided convolutions, ending in a linear 1x1x1 convolution.

    Float (B, channels_in, x, y, z) -> raw logits (B, channels_out, x, y, z), of any sign and size.

    channels: features of each stage, the finest first; as many stages as numbers.
    strides: what each stage shrinks its input by, a number or one for each axis; the first is 1. Default: 1, 2, 2, ...
    convolutions, decoder_convolutions: 3x3x3 convolutions in a stage on the way down and up.
    norm: "instance" or "group" (groups of 8 where the channels divide). Neither depends on the batch.
    upsampling: "nearest" or "linear" interpolation after a 1x1x1 convolution, or a "transposed" convolution. The
        1x1x1 convolution comes first as the two commute, and before the interpolation it costs an eighth.

    Any size from `smallest_vox` up works: a stage of stride s turns n voxels into ceil(n / s), so what comes up from
    below is never smaller than its skip and is cropped to it. `multiple_vox` is therefore 1 along every axis.
    `smallest_vox` leaves two voxels along every axis in the deepest stage: an instance norm over one voxel is 0.

    Raises UserError for arguments that make no network.
    """

    multiple_vox: Int3 = (1, 1, 1)
    right_in_cpu_bfloat16 = True  # see Convolution

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        channels: Sequence[int] = (32, 64, 128, 256, 320),
        strides: Sequence[int | Sequence[int]] | None = None,
        convolutions: int = 2,
        decoder_convolutions: int = 2,
        norm: str = "instance",
        upsampling: str = "nearest",
    ) -> None:
        super().__init__()
        check_counts(channels, convolutions, decoder_convolutions)
        check_choice("norm", norm, NORMS)
        check_choice("upsampling", upsampling, UPSAMPLINGS)
        steps = stage_strides(strides, len(channels))
        self.smallest_vox: Int3 = smallest_size(steps)
        before = (channels_in, *channels[:-1])
        self.encoder = nn.ModuleList(
            Stage(a, b, convolutions, norm, stride) for a, b, stride in zip(before, channels, steps, strict=True)
        )
        self.upsamplings = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(1, len(channels))):
            below, here = channels[level], channels[level - 1]
            self.upsamplings.append(Upsampling(below, here, steps[level], upsampling))
            self.decoder.append(Stage(2 * here, here, decoder_convolutions, norm))
        self.head = nn.Conv3d(channels[0], channels_out, 1)
        self.apply(initialise)
        nn.init.normal_(self.head.weight, std=0.01)  # first logits near 0: the first loss is near ln(channels_out)

    def forward(self, image: Tensor) -> Tensor:
        skips = []
        features = image
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        skips.pop()
        for upsampling, stage in zip(self.upsamplings, self.decoder, strict=True):
            skip = skips.pop()
            features = stage(torch.cat((skip, crop(upsampling(features), skip)), dim=1))
        return self.head(features)

    def recomputed(self) -> list[nn.Module]:
        """Return the modules that are run again in the backward pass where memory is to be saved."""
        return [*self.encoder, *self.decoder]


class Stage(nn.Sequential):
    """Convolutions at one resolution, each with norm and activation; the first one may stride."""

    def __init__(self, channels_in: int, channels_out: int, convolutions: int, norm: str, stride: Int3 = (1, 1, 1)):
        blocks = [Block(channels_in, channels_out, norm, stride)]
        blocks += [Block(channels_out, channels_out, norm) for _ in range(convolutions - 1)]
        super().__init__(*blocks)


class Block(nn.Sequential):
    """A 3x3x3 convolution without bias (the norm has one), a norm and an activation in place."""

    def __init__(self, channels_in: int, channels_out: int, norm: str, stride: Int3 = (1, 1, 1)) -> None:
        super().__init__(
            Convolution(channels_in, channels_out, 3, stride, padding=1, bias=False),
            normalisation(norm, channels_out),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
        )


class Convolution(nn.Conv3d):
    """A 3D convolution that is computed in float32 on a CPU where its kernel is longer than the first spatial axis.

    There oneDNN's weight gradient in bfloat16, channels last, reads memory that nobody wrote: it is wrong by its own
    size or more, and at times NaN (torch 2.13; kernel 3 on an axis of 2 voxels). In float32 it is right.
    """

    def forward(self, features: Tensor) -> Tensor:
        if features.device.type != "cpu" or features.shape[2] >= self.kernel_size[0]:
            return super().forward(features)
        with torch.autocast("cpu", enabled=False):
            return super().forward(features.to(self.weight.dtype))


class Upsampling(nn.Module):
    """Bring features from one stage to the resolution and channels of the next finer one."""

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
        return functional.interpolate(features, scale_factor=self.factor, mode=self.mode)


def normalisation(norm: str, channels: int) -> nn.Module:
    """Return a norm of each sample by itself."""
    return InstanceNorm(channels) if norm == "instance" else nn.GroupNorm(gcd(GROUPS, channels), channels)


class InstanceNorm(nn.GroupNorm):
    """An instance norm, which is a group norm with a group for each channel, that trains fast on a CPU.

    torch's InstanceNorm3d leaves the channels-last layout, and the backward pass of its group norm is slow in it. A
    batch norm of one sample is the same function, and quick: 8 against 30 ms forward and backward in float32 at
    2 x 16 x 48 x 48 x 48 on one core, 6 against 103 ms in bfloat16.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or features.device.type != "cpu":
            return super().forward(features)
        samples = features.split(1)
        normed = [functional.batch_norm(s, None, None, self.weight, self.bias, True, eps=self.eps) for s in samples]
        return torch.cat(normed)


def crop(features: Tensor, skip: Tensor) -> Tensor:
    """Cut what reaches beyond the skip at the far end of each axis."""
    x, y, z = skip.shape[2:]
    return features[:, :, :x, :y, :z]


def initialise(module: nn.Module) -> None:
    """Draw a convolution's weights so that variance is kept through leaky ReLUs (He 2015)."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def stage_strides(strides: Sequence[int | Sequence[int]] | None, stages: int) -> list[Int3]:
    """Return one stride for each stage and axis; None means 1, then 2 throughout."""
    given = [1] + [2] * (stages - 1) if strides is None else strides
    if not isinstance(given, list | tuple) or len(given) != stages or not all(is_stride(step) for step in given):
        raise UserError(
            f"net.options.strides: {given} for {stages} stages; expected a number of at least 1, or three, for each "
            "stage, such as [1, 2, 2, [2, 2, 1]]."
        )
    steps: list[Int3] = [(step, step, step) if isinstance(step, int) else tuple(step) for step in given]
    if steps[0] != (1, 1, 1):
        raise UserError(
            f"net.options.strides: the first stage has {given[0]}; expected 1: it gives the output its size."
        )
    return steps


def is_stride(step: object) -> bool:
    """True for a whole number of at least 1, and for three of them."""
    axes = list(step) if isinstance(step, list | tuple) else [step] * 3
    return len(axes) == 3 and all(isinstance(n, int) and n >= 1 for n in axes)


def smallest_size(steps: Sequence[Int3]) -> Int3:
    """Return the size that leaves two voxels in the deepest stage along every axis that is shrunk."""
    x, y, z = (prod(step[axis] for step in steps) + 1 for axis in range(3))
    return x, y, z


def check_counts(channels: Sequence[int], convolutions: int, decoder_convolutions: int) -> None:
    """Refuse channels and numbers of convolutions that are not whole numbers of at least 1, and fewer than 2 stages."""
    if not isinstance(channels, list | tuple) or len(channels) < 2:
        raise UserError(f"net.options.channels: {channels}; expected at least two numbers, such as [16, 32, 64].")
    given = [("channels", count) for count in channels]
    given += [("convolutions", convolutions), ("decoder_convolutions", decoder_convolutions)]
    for key, count in given:
        if not isinstance(count, int) or count < 1:
            raise UserError(f"net.options.{key}: {count}; expected whole numbers of at least 1.")


def check_choice(key: str, given: str, known: Sequence[str]) -> None:
    """Refuse a word that is none of those known."""
    if given not in known:
        raise UserError(f"net.options.{key}: {given!r}; expected one of {', '.join(known)}.")
