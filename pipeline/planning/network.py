"""The network for a patch: how its stages shrink it, axis by axis, their channels, and a patch that it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

from pipeline.config.net import NetSection
from pipeline.nets.axes import by_axis, product_of
from pipeline.nets.registry import build
from pipeline.planning.patch import ideal_patch, legal_patch
from pipeline.volume.grid import Float3, Int3

PLANNED = "UNet3d"  # the network whose stages are chosen here; others keep the options that they are given
CHANNELS_IN = 1
BOTTOM_VOX = 4  # an axis is halved while at least so much is left of it
ALONE_VOX = 6  # and where no other axis is halved with it, while so much is left
SIMILAR = 2.0  # axes are halved together whose spacings differ by less than this factor
MOST_STAGES = 6


@dataclass(frozen=True)
class Family:
    """The channels of a U-Net for a kind of device, its other options, and why."""

    first: int
    most: int
    options: Mapping[str, Any]
    reason: str


GPU = Family(32, 320, {}, "32, doubled to 320 at most: what nnU-Net trains on a GPU")
CPU = Family(
    *(16, 128, {"decoder_convolutions": 1}),
    "16, doubled to 128 at most: a step on a CPU takes a fourth of what 32 to 320 would",
)


@dataclass(frozen=True)
class Fitted:
    """A network with its patch, and what such a patch must be a multiple of and may not fall below."""

    net: NetSection
    patch_vox: Int3
    multiple_vox: Int3
    smallest_vox: Int3

    def legal(self, shape_vox: Int3, voxels: float) -> Int3:
        """Return another patch of this network, of this shape's proportions and about so many voxels."""
        ideal = ideal_patch(shape_vox, voxels)
        return legal_patch(ideal, shape_vox, voxels, self.multiple_vox, self.smallest_vox)


def fit(
    net: NetSection, family: Family, channels_out: int, shape_vox: Int3, spacing_mm: Float3, voxels: float
) -> Fitted:
    """Return the network for a patch of the body's proportions and at most so many voxels, and that patch."""
    ideal = ideal_patch(shape_vox, voxels)
    x, y, z = (max(1, int(size)) for size in ideal)
    fitted = fit_patch(net, family, channels_out, (x, y, z), spacing_mm)
    patch = legal_patch(ideal, shape_vox, voxels, fitted.multiple_vox, fitted.smallest_vox)
    return Fitted(fitted.net, patch, fitted.multiple_vox, fitted.smallest_vox)


def fit_patch(net: NetSection, family: Family, channels_out: int, patch_vox: Int3, spacing_mm: Float3) -> Fitted:
    """Return the network for a patch that is as it is.

    Raises UserError where no network can be made of what the config gives.
    """
    chosen = network_of(net, family, patch_vox, spacing_mm)
    module: Any = build(chosen, CHANNELS_IN, channels_out)
    own = product_of(full_strides(chosen)) if chosen.name == PLANNED else (1, 1, 1)
    x, y, z = (lcm(one, other) for one, other in zip(own, module.multiple_vox, strict=True))
    return Fitted(chosen, patch_vox, (x, y, z), module.smallest_vox)


def network_of(net: NetSection, family: Family, patch_vox: Int3, spacing_mm: Float3) -> NetSection:
    """Return the network with the options that it was not given: strides by anisotropy, channels by the device."""
    if net.name != PLANNED:
        return net
    given = dict(net.options)
    if "channels" in given:  # as many stages as are given; those for which no voxel is left shrink nothing
        stages = counted(given["channels"])
        strides = strides_of(patch_vox, spacing_mm, stages)
        planned: dict[str, Any] = {"strides": in_short(strides + [(1, 1, 1)] * (stages - len(strides)))}
    else:
        strides = given.get("strides", in_short(strides_of(patch_vox, spacing_mm)))
        channels = channels_of(counted(strides), family.first, family.most)
        planned = {"channels": channels, "strides": strides, **family.options}
    options = {**planned, **given}
    return net.model_copy(update={"options": options})


def counted(given: Any) -> int:
    """Return the number of stages that a list is for; for anything else, which the network will refuse, any number."""
    return len(given) if isinstance(given, list | tuple) else MOST_STAGES


def full_strides(net: NetSection) -> list[Int3]:
    """Return the strides that a planned network's options hold, three numbers each."""
    return [by_axis(step) for step in net.options["strides"]]


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


def channels_of(stages: int, first: int, most: int) -> list[int]:
    """Return the channels of each stage: doubled from the first on, up to `most`."""
    return [min(most, first * 2**stage) for stage in range(stages)]


def in_short(strides: Sequence[Int3]) -> list[int | list[int]]:
    """Return strides as a config writes them: one number where the three axes agree."""
    return [step[0] if len(set(step)) == 1 else list(step) for step in strides]
