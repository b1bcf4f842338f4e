"""MONAI's networks: what they need to be told, and which sizes they take."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.nets.axes import product_of
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


# What a patch must be a multiple of, as each class's source or docstring has it; classes not listed take any size.
MULTIPLES: dict[str, Callable[[Any], Int3]] = {
    "UNet": lambda network: product_of(network.strides[: len(network.channels) - 1]),
    "AttentionUnet": lambda network: product_of(network.strides[: len(network.channels) - 1]),
    "AutoEncoder": lambda network: product_of(network.strides),
    "DynUNet": lambda network: product_of(network.strides),
    "SegResNet": lambda network: product_of([2] * (len(network.blocks_down) - 1)),
    "SegResNetVAE": lambda network: product_of([2] * (len(network.blocks_down) - 1)),
    "SegResNetDS": lambda network: product_of([network.shape_factor()]),
    "SegResNetDS2": lambda network: product_of([network.shape_factor()]),
    "MedNeXt": lambda network: product_of([2] * len(network.enc_stages)),
    "LocalNet": lambda network: product_of([2] * network.depth),
    "RegUNet": lambda network: product_of([2] * network.depth),
    "VQVAE": lambda network: product_of([stage[0] for stage in network.encoder.downsample_parameters]),
    "SwinUNETR": lambda network: product_of([network.patch_size] * 5),
    "FlexibleUNet": lambda network: (32, 32, 32),
    "VNet": lambda network: (16, 16, 16),
    "AHNet": lambda network: (max(32, 8 * 2**network.psp_block_num),) * 2 + (32,),
}
SMALLEST: dict[str, Callable[[Any], Int3]] = {
    "BasicUNet": lambda network: (32, 32, 32),  # four poolings, odd sizes are padded
    "BasicUNetPlusPlus": lambda network: (32, 32, 32),
    "AHNet": lambda network: (max(64, 8 * 2**network.psp_block_num),) * 2 + (32,),
}
# Classes made for one size of patch, which an option of theirs gives.
ONE_SIZE: dict[str, Callable[[Any], Sequence[int]]] = {
    "UNETR": lambda network: [size * step for size, step in zip(network.feat_size, network.patch_size, strict=True)],
    "ViTAutoEnc": lambda network: network.img_size,
}


def without_own_loss(name: str, network: Any) -> None:
    """Leave out the loss that SegResNetVAE computes itself: nothing adds it, and it refuses channels-last features."""
    if name == "SegResNetVAE":
        network._get_vae_loss = no_loss


def no_loss(*inputs: Any) -> None:
    """Return nothing, in the place of a loss."""


def set_sizes(name: str, network: Any) -> None:
    """Give a MONAI network `multiple_vox`, `smallest_vox` and, where it is made for one size, `largest_vox`.

    The smallest size leaves two voxels along each axis in the deepest features: most of MONAI's networks have instance
    norms there, which refuse a single voxel.
    """
    if name in ONE_SIZE:
        x, y, z = ONE_SIZE[name](network)
        network.multiple_vox = network.smallest_vox = network.largest_vox = (x, y, z)
        return
    network.multiple_vox = MULTIPLES.get(name, lambda network: (1, 1, 1))(network)
    x, y, z = (2 * step if step > 1 else 1 for step in network.multiple_vox)
    network.smallest_vox = SMALLEST.get(name, lambda network: (x, y, z))(network)
