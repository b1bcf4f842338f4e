"""The network for a patch: its stages and channels, and a patch that it takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

from pipeline.config.net import NetSection
from pipeline.nets.registry import build
from pipeline.planning.patch import ideal_patch, legal_patch
from pipeline.planning.stages import MOST_STAGES, channels_of, in_short, multiple_of, strides_of
from pipeline.volume.grid import Float3, Int3

PLANNED = "UNet3d"  # the network whose stages are chosen here; others keep the options that they are given
CHANNELS_IN = 1


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
    own = multiple_of(full_strides(chosen)) if chosen.name == PLANNED else (1, 1, 1)
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
    steps = [(step,) * 3 if isinstance(step, int) else tuple(step) for step in net.options["strides"]]
    return [(x, y, z) for x, y, z in steps]
