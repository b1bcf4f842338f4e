"""MONAI's networks: what they need to be told, and which sizes they take."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from pipeline.volume.grid import Int3

UNET_CHANNELS = (16, 32, 64, 128)
DYNUNET_STRIDES = (1, 2, 2, 2, 2)


def with_defaults(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with those added that the class requires and that follow from the others."""
    added: dict[str, Any] = {}
    if name in ("UNet", "AttentionUnet"):
        channels = options.get("channels", UNET_CHANNELS)
        added = {"channels": channels, "strides": [2 for _ in as_sequence(channels)[1:]]}
    if name == "UNet":
        added["num_res_units"] = 2
    if name == "DynUNet":
        strides = options.get("strides", DYNUNET_STRIDES)
        others = as_sequence(strides)
        added = {"strides": strides, "kernel_size": [3 for _ in others], "upsample_kernel_size": others[1:]}
    return added | dict(options)


def as_sequence(given: Any) -> Sequence[Any]:
    """Return a sequence as it is and anything else as an empty one: the class will say what is wrong with it."""
    return given if isinstance(given, list | tuple) else ()


def product_of(strides: Sequence[int | Sequence[int]]) -> Int3:
    """Return the product of all strides along each axis."""
    steps = [(step,) * 3 if isinstance(step, int) else tuple(step) for step in strides]
    x, y, z = (prod(step[axis] for step in steps) for axis in range(3))
    return x, y, z


# What a patch must be a multiple of, as each class's source or docstring has it; classes not listed take any size.
MULTIPLES: dict[str, Callable[[Any], Int3]] = {
    "UNet": lambda network: product_of(network.strides[: len(network.channels) - 1]),
    "AttentionUnet": lambda network: product_of(network.strides[: len(network.channels) - 1]),
    "DynUNet": lambda network: product_of(network.strides),
    "SegResNet": lambda network: product_of([2] * (len(network.blocks_down) - 1)),
    "SegResNetDS": lambda network: product_of([network.shape_factor()]),
    "MedNeXt": lambda network: product_of([2] * len(network.enc_stages)),
    "SwinUNETR": lambda network: (32, 32, 32),
    "FlexibleUNet": lambda network: (32, 32, 32),
    "UNETR": lambda network: (16, 16, 16),
    "VNet": lambda network: (16, 16, 16),
}
SMALLEST = {"BasicUNet": (32, 32, 32), "BasicUNetPlusPlus": (32, 32, 32)}  # four poolings, odd sizes are padded


def sizes(name: str, network: Any) -> tuple[Int3, Int3]:
    """Return (multiple_vox, smallest_vox) of a MONAI network.

    The smallest size leaves two voxels along each axis in the deepest features: most of MONAI's networks have instance
    norms there, which refuse a single voxel.
    """
    multiple = MULTIPLES.get(name, lambda network: (1, 1, 1))(network)
    x, y, z = (2 * step if step > 1 else 1 for step in multiple)
    return multiple, SMALLEST.get(name, (x, y, z))
