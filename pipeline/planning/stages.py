"""How a U-Net's stages shrink a patch, axis by axis, and how many channels they have."""

from collections.abc import Sequence
from math import prod

from pipeline.volume.grid import Float3, Int3

BOTTOM_VOX = 4  # an axis is halved while at least so much is left of it
ALONE_VOX = 6  # and where no other axis is halved with it, while so much is left
SIMILAR = 2.0  # axes are halved together whose spacings differ by less than this factor
MOST_STAGES = 6


def strides_of(patch_vox: Int3, spacing_mm: Float3, most_stages: int = MOST_STAGES) -> list[Int3]:
    """Return the stride of each stage, the first one 1; at least two stages (nnU-Net's rule; Isensee 2021).

    An axis is halved while 4 voxels of it are left, and only once the others are no longer finer by a factor of 2:
    thick slices wait until the plane has their spacing. Where nothing can be halved the second stage strides by 1.
    """
    size, spacing = list(patch_vox), list(spacing_mm)
    strides: list[Int3] = [(1, 1, 1)]
    while len(strides) < most_stages:
        able = [axis for axis in range(3) if size[axis] >= 2 * BOTTOM_VOX]
        finest = min((spacing[axis] for axis in able), default=0.0)
        halved = [axis for axis in able if spacing[axis] < SIMILAR * finest]
        if not halved or (len(halved) == 1 and size[halved[0]] < 2 * ALONE_VOX):
            break
        x, y, z = (2 if axis in halved else 1 for axis in range(3))
        strides.append((x, y, z))
        size = [-(-n // step) for n, step in zip(size, strides[-1], strict=True)]
        spacing = [mm * step for mm, step in zip(spacing, strides[-1], strict=True)]
    return strides if len(strides) > 1 else [(1, 1, 1), (1, 1, 1)]


def multiple_of(strides: Sequence[Int3]) -> Int3:
    """Return what a patch must be a multiple of, so that no stage rounds: the product of the strides of each axis."""
    x, y, z = (prod(step[axis] for step in strides) for axis in range(3))
    return x, y, z


def channels_of(stages: int, first: int, most: int) -> list[int]:
    """Return the channels of each stage: doubled from the first on, up to `most`."""
    return [min(most, first * 2**stage) for stage in range(stages)]


def in_short(strides: Sequence[Int3]) -> list[int | list[int]]:
    """Return strides as a config writes them: one number where the three axes agree."""
    return [step[0] if len(set(step)) == 1 else list(step) for step in strides]
