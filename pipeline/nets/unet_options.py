"""What users write into the options of `UNet3d`, checked and made whole: one value for each stage and axis."""

from collections.abc import Sequence
from typing import Any

from pipeline.errors import UserError
from pipeline.nets.axes import by_axis
from pipeline.nets.option_checks import check_count
from pipeline.volume.grid import Int3

KERNEL = 3


def stage_strides(strides: Sequence[int | Sequence[int]] | None, stages: int) -> list[Int3]:
    """Return one stride for each stage and axis; None means 1, then 2 throughout.

    Raises UserError for anything but whole numbers of at least 1, and for a first stage that strides.
    """
    given = [1] + [2] * (stages - 1) if strides is None else strides
    if not isinstance(given, list | tuple) or len(given) != stages or not all(is_stride(step) for step in given):
        raise UserError(
            f"net.options.strides: {given} for {stages} stages; expected a number of at least 1, or three, for each "
            "stage, such as [1, 2, 2, [2, 2, 1]]."
        )
    steps = [by_axis(step) for step in given]
    if steps[0] != (1, 1, 1):
        raise UserError(
            f"net.options.strides: the first stage has {given[0]}; expected 1: it gives the output its size."
        )
    return steps


def stage_kernels(kernels: Sequence[int | Sequence[int]] | None, steps: Sequence[Int3]) -> list[Int3]:
    """Return the kernel of each stage's convolutions along each axis; None means 3 throughout.

    Raises UserError for even numbers, which have no middle, and for a kernel that is shorter than its stage's stride,
    as voxels between would never be read.
    """
    given = [KERNEL] * len(steps) if kernels is None else kernels
    if not isinstance(given, list | tuple) or len(given) != len(steps) or not all(is_odd(size) for size in given):
        raise UserError(
            f"net.options.kernels: {given} for {len(steps)} stages; expected an odd number, or three, for each stage, "
            "such as [[3, 3, 1], 3, 3, 3]."
        )
    key, cure = ("kernels", "longer kernel") if kernels else ("strides", "smaller stride, or net.options.kernels")
    sizes = [by_axis(size) for size in given]
    for number, (size, step) in enumerate(zip(sizes, steps, strict=True)):
        if any(n < s for n, s in zip(size, step, strict=True)):
            raise UserError(
                f"net.options.{key}: stage {number} has kernel {list(size)} and stride {list(step)}; expected a "
                f"kernel that is no shorter than the stride, or voxels between are never read; set a {cure}."
            )
    return sizes


def stage_dropout(dropout: float | Sequence[float], stages: int) -> list[float]:
    """Return the probability of dropping a channel for each stage. Raises UserError where one is not in [0, 1)."""
    given: Sequence[Any] = dropout if isinstance(dropout, list | tuple) else [dropout] * stages
    if len(given) != stages or not all(is_share(share) for share in given):
        raise UserError(
            f"net.options.dropout: {dropout} for {stages} stages; expected a number from 0 to below 1, or one for each "
            "stage, such as [0, 0, 0.1, 0.2]."
        )
    return [float(share) for share in given]


def is_stride(step: Any) -> bool:
    """True for a whole number of at least 1, and for three of them."""
    axes = list(step) if isinstance(step, list | tuple) else [step] * 3
    return len(axes) == 3 and all(isinstance(n, int) and n >= 1 for n in axes)


def is_odd(size: Any) -> bool:
    """True for an odd number of at least 1, and for three of them."""
    return is_stride(size) and all(n % 2 == 1 for n in by_axis(size))


def is_share(share: Any) -> bool:
    """True for a number from 0 to below 1."""
    return isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share < 1


def check_counts(channels: Sequence[int], convolutions: int, decoder_convolutions: int) -> None:
    """Refuse channels and numbers of convolutions that are not whole numbers of at least 1, and fewer than 2 stages."""
    if not isinstance(channels, list | tuple) or len(channels) < 2:
        raise UserError(f"net.options.channels: {channels}; expected at least two numbers, such as [16, 32, 64].")
    for count in channels:
        check_count("channels", count)
    check_count("convolutions", convolutions)
    check_count("decoder_convolutions", decoder_convolutions)


def check_supervision(heads: int, stages: int) -> None:
    """Refuse a number of further heads that a decoder of one stage less than the encoder has no place for."""
    if heads == 1 and stages == 2:
        raise UserError(
            "net.options.deep_supervision: 1 for 2 stages; a coarser output needs at least 3 stages: give net.options."
            "channels another number, or leave deep_supervision out."
        )
    if not isinstance(heads, int) or isinstance(heads, bool) or not 0 <= heads <= stages - 2:
        raise UserError(
            f"net.options.deep_supervision: {heads}; expected how many coarser outputs are trained beside the "
            f"prediction, a whole number from 0 to {stages - 2} for {stages} stages."
        )


def check_switch(key: str, given: bool) -> None:
    """Refuse anything but true and false."""
    if not isinstance(given, bool):
        raise UserError(f"net.options.{key}: {given!r}; expected true or false.")


def check_choice(key: str, given: str, known: Sequence[str]) -> None:
    """Refuse a word that is none of those known."""
    if given not in known:
        raise UserError(f"net.options.{key}: {given!r}; expected one of {', '.join(known)}.")
