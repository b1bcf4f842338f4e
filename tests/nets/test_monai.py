"""MONAI's networks: five trained for real, all others at the door."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config.loss import LossSection
from pipeline.config.net import NetSection
from pipeline.config.train import TrainSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.losses.build import build as build_loss
from pipeline.model import Model, ModelFacts
from pipeline.nets.probe import probe
from pipeline.nets.registry import build, check_patch, monai_names
from pipeline.nets.trace import trace
from pipeline.sampling.batch import Batch
from pipeline.training.optimise import make_optimiser
from pipeline.training.step import Step
from pipeline.volume.intensity import Intensity

LABELS = Labels({"ball": (1,), "bar": (2,)})
HEAD = Head("softmax", LABELS)
INTENSITY = Intensity(window_hu=(-200, 400), gamma=1.0, mean=0.5, std=0.2)
TRAINED: dict[str, dict[str, Any]] = {
    "UNet": {"channels": [8, 16, 16]},
    "DynUNet": {"strides": [1, 2, 2], "filters": [8, 16, 16], "deep_supervision": True, "deep_supr_num": 1},
    "AttentionUnet": {"channels": [8, 16, 16]},
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1]},
    "SwinUNETR": {"feature_size": 12, "num_heads": [2, 2, 2, 2], "depths": [1, 1, 1, 1], "window_size": 2},
}
NEEDS_EINOPS = {
    "SwinUNETR", "UNETR", "ViTAutoEnc", "ViT", "NaViT", "Transchex", "DiffusionModelUNet", "SPADEDiffusionModelUNet",
}  # fmt: skip
VIT = {"img_size": [32, 32, 32], "hidden_size": 24, "mlp_dim": 48, "num_heads": 2}
AUTOENCODER = {"channels": [4, 8], "num_res_blocks": 1, "norm_num_groups": 2, "attention_levels": [False, False]}
UNATTENDING = {"with_encoder_nonlocal_attn": False, "with_decoder_nonlocal_attn": False}
LARGE = {"SwinUNETR", "AHNet", "VNet", "FlexibleUNet", "DAF3D", "SENet"}  # seconds to minutes
PASSING: dict[str, dict[str, Any]] = {
    "AHNet": {"layers": [1, 1, 1, 1], "psp_block_num": 1},
    "AutoEncoder": {"channels": [4, 8], "strides": [2, 2]},
    "BasicUNet": {"features": [4] * 6},
    "BasicUNetPlusPlus": {"features": [4] * 6},
    "FlexibleUNet": {"backbone": "efficientnet-b0", "decoder_channels": [8] * 5},
    "HighResBlock": {},
    "LocalNet": {"num_channel_initial": 4, "extract_levels": [0, 1, 2]},
    "MedNeXt": {"init_filters": 4, "kernel_size": 3},
    "RegUNet": {"num_channel_initial": 4, "depth": 2, "extract_levels": [0, 2]},
    "SegResNetDS": {"init_filters": 8, "blocks_down": [1, 1, 1], "dsdepth": 2},
    "SegResNetDS2": {"init_filters": 8, "blocks_down": [1, 1, 1]},
    "SegResNetVAE": {"input_image_size": [32, 32, 32], "blocks_down": [1, 1, 1], "blocks_up": [1, 1]},
    "UNETR": VIT | {"feature_size": 4},
    "ViTAutoEnc": VIT | {"patch_size": [16, 16, 16], "num_layers": 1},
    "VNet": {},
    "VQVAE": {
        "channels": [4, 4], "num_res_layers": 1, "num_res_channels": [4, 4], "num_embeddings": 4, "embedding_dim": 4,
        "downsample_parameters": [[2, 4, 1, 1]] * 2, "upsample_parameters": [[2, 4, 1, 1, 0]] * 2,
    },
}  # fmt: skip
# Classes that are no segmentation networks, or cannot be made of what a config can say.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "AutoencoderKL": (AUTOENCODER | UNATTENDING, "output 2, ends in Exp"),
    "DAF3D": ({}, "needs a library that is missing: .*torchvision|ends in|cannot be"),
    "DenseNet": ({"init_features": 4, "growth_rate": 4, "block_config": [1, 1]}, r"of \[2, 3\]"),
    "DenseNet121": ({"block_config": [1, 1]}, r"of \[2, 3\]"),
    "DenseNet169": ({"block_config": [1, 1]}, r"of \[2, 3\]"),
    "DenseNet201": ({"block_config": [1, 1]}, r"of \[2, 3\]"),
    "DenseNet264": ({"block_config": [1, 1]}, r"of \[2, 3\]"),
    "DiNTS": ({}, "needs dints_space, which has no default"),
    "DiffusionModelUNet": (AUTOENCODER, "missing 1 required positional argument: 'timesteps'"),
    "EfficientNet": ({"blocks_args_str": ["r1_k3_s11_e1_i32_o16_se0.25"]}, r"of \[2, 3\]"),
    "EfficientNetBN": ({"model_name": "efficientnet-b0", "pretrained": False}, r"of \[2, 3\]"),
    "EfficientNetBNFeatures": ({"model_name": "efficientnet-b0", "pretrained": False}, r"\(2, 16, 16, 16, 16\)"),
    "EfficientNetEncoder": ({"model_name": "efficientnet-b0", "pretrained": False}, r"\(2, 16, 16, 16, 16\)"),
    "FullyConnectedNet": ({"hidden_channels": [4]}, "cannot be run"),
    "HighResNet": ({"layer_params": [
        {"name": "a", "n_features": 4, "kernel_size": 3}, {"name": "b", "n_features": 4, "kernels": [3], "repeat": 1},
        {"name": "c", "n_features": 4, "kernel_size": 1}, {"name": "d", "kernel_size": 1},
    ]}, "ends in Relu"),
    "HyenaNDUNETR": ({"hyena_stages": [True] * 4, "feature_size": 12}, "needs a library that is missing|cannot be"),
    "MultiScalePatchDiscriminator": (
        {"num_d": 1, "num_layers_d": 1, "channels": 4, "minimum_size_im": 8}, "returns no tensor"
    ),
    "NaViT": (
        {"image_size": 32, "patch_size": 16, "hidden_size": 8, "mlp_dim": 8, "num_layers": 1, "num_heads": 2},
        "Expected image with 4 dimensions",
    ),
    "NetAdapter": ({"model": "resnet"}, "cannot be made with .*no attribute 'children'"),
    "PatchDiscriminator": ({"channels": 4, "num_layers_d": 1}, r"\(2, 4, 16, 16, 16\); expected"),
    "ResNet": ({"block": "basic", "layers": [1] * 4, "block_inplanes": [4] * 4}, r"of \[2, 3\]"),
    "SENet": (
        {"block": "se_resnet_bottleneck", "layers": [1] * 4, "groups": 1, "reduction": 4, "inplanes": 8}, r"of \[2, 3\]"
    ),
    "SPADEAutoencoderKL": (AUTOENCODER | UNATTENDING | {"label_nc": 2}, "missing 1 required .*: 'seg'"),
    "SPADEDiffusionModelUNet": (AUTOENCODER | {"label_nc": 2}, "missing 2 required positional arguments"),
    "SPADENet": ({"label_nc": 2, "input_shape": [32] * 3, "channels": [4, 8], "is_vae": False}, "cannot be run"),
    "TorchVisionFCModel": ({}, "needs a library that is missing: .*torchvision|cannot be"),
    "Transchex": (
        {"img_size": [32, 32], "patch_size": [16, 16], "num_language_layers": 1, "num_vision_layers": 1,
         "num_mixed_layers": 1},
        "needs a library that is missing: .*transformers|cannot be",
    ),
    "VarFullyConnectedNet": ({"latent_size": 2, "encode_channels": [4], "decode_channels": [4]}, "cannot be run"),
    "ViT": (VIT | {"patch_size": [16, 16, 16], "num_layers": 1}, "returns no tensor"),
}  # fmt: skip


def unhurried(names: Iterable[str]) -> list[Any]:
    """Return names as parameters, large networks as slow ones."""
    return [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in names]


def section(name: str, options: dict[str, Any]) -> NetSection:
    if name in NEEDS_EINOPS:
        pytest.importorskip("einops", reason="MONAI's transformers need einops")
    return NetSection(name=f"monai.{name}", options=options)


def scene(size_vox: tuple[int, int, int]) -> Batch:
    """Return two noisy images of a ball and a bar, and their labels."""
    x, y, z = torch.meshgrid(*map(torch.arange, size_vox), indexing="ij")
    middle = size_vox[0] / 2
    ball = (x - middle) ** 2 + (y - middle) ** 2 + (z - middle) ** 2 < (middle / 2) ** 2
    labels = ball.to(torch.uint8)
    labels[:3] = 2
    noise = torch.randn((2, *size_vox), generator=torch.Generator().manual_seed(0))
    return Batch((labels + 0.3 * noise)[:, None], labels.expand(2, *size_vox).clone(), ())


def losses_of(net: torch.nn.Module, batch: Batch, steps: int) -> Iterator[float]:
    """Train for real; yield the loss of each step."""
    section = TrainSection()
    loss = build_loss(LossSection(), HEAD, ())
    step = Step(net, loss, make_optimiser(net, section), device=torch.device("cpu"), amp=None, clip=section.clip)
    for number in range(steps):
        yield step(number, batch, lr=3e-3).loss


def forbidden_sizes(net: Any) -> list[tuple[int, int, int]]:
    """Return sizes next to what the network's rule allows: one multiple smaller, and one that is no multiple."""
    low, step = net.smallest_vox, net.multiple_vox
    smaller = tuple(n - one for n, one in zip(low, step, strict=True))
    between = tuple(n + (one > 1) for n, one in zip(low, step, strict=True))
    return [size for size in (smaller, between) if min(size) > 0 and size != low]


def check_learns_and_is_kept(net: Any, given: NetSection, size: tuple[int, int, int], folder: Path) -> None:
    """Five real steps lower the loss, and the model folder gives the same logits."""
    losses = list(losses_of(net, scene(size), 6))
    assert losses[5] < 0.99 * losses[0], losses
    facts = ModelFacts(HEAD, LABELS, (2.0, 2.0, 2.0), INTENSITY, size, given)
    Model(facts, net).save(folder)
    image = scene(size).image[:1]
    with torch.no_grad():
        assert torch.equal(Model.load(folder).net(image), net.eval()(image))


@pytest.mark.parametrize("name", unhurried(TRAINED))
def test_it_passes_the_door_learns_and_is_kept(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = section(name, TRAINED[name])
    net: Any = build(given, 1, 3)
    verdict = probe(net, net.smallest_vox, channels_out=3)
    assert len(verdict.output_shapes) == (2 if name == "DynUNet" else 1)
    check_learns_and_is_kept(net, given, net.smallest_vox, tmp_path / "model")


@pytest.mark.parametrize("name", unhurried(TRAINED))
def test_it_runs_at_sizes_that_its_rule_allows_and_not_at_others(name: str) -> None:
    net: Any = build(section(name, TRAINED[name]), 1, 3)
    larger = tuple(low + step for low, step in zip(net.smallest_vox, net.multiple_vox, strict=True))
    for size in (net.smallest_vox, (*net.smallest_vox[:2], larger[2])):
        check_patch(net, size, name)
        assert trace(net.train(), (size,), 1).outputs[0].shape == (2, 3, *size)
    sizes = forbidden_sizes(net)
    assert len(sizes) == 2
    for size in sizes:
        with pytest.raises(UserError, match=f"sample.patch_vox: .*does not suit {name}"):
            check_patch(net, size, name)
    with pytest.raises(UserError, match="cannot be run"):  # for real: what is no multiple is more than inconvenient
        trace(net.train(), sizes[1:], 1)


@pytest.mark.parametrize("name", unhurried(PASSING))
def test_others_pass_the_door_at_their_smallest_size(name: str) -> None:
    net: Any = build(section(name, PASSING[name]), 1, 3)
    size = tuple(max(low, 16 // step * step) for low, step in zip(net.smallest_vox, net.multiple_vox, strict=True))
    check_patch(net, size, name)
    verdict = probe(net, size, channels_out=3)
    assert verdict.probed_vox == size
    for other in forbidden_sizes(net):
        with pytest.raises(UserError, match=f"sample.patch_vox: .*does not suit {name}"):
            check_patch(net, other, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", unhurried(PASSING))
def test_others_learn_in_five_steps_and_are_kept(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = section(name, PASSING[name])
    net: Any = build(given, 1, 3)
    size = tuple(max(low, 16 // step * step) for low, step in zip(net.smallest_vox, net.multiple_vox, strict=True))
    check_learns_and_is_kept(net, given, size, tmp_path / "model")


@pytest.mark.parametrize("name", ["UNETR", "ViTAutoEnc"])
def test_what_is_made_for_one_size_refuses_a_larger_one(name: str) -> None:
    net: Any = build(section(name, PASSING[name]), 1, 3)
    assert net.smallest_vox == net.largest_vox == (32, 32, 32)
    with pytest.raises(
        UserError, match=r"made for patches of at most \[32, 32, 32\]; set that, or net\.options\.img_s"
    ):
        check_patch(net, (64, 64, 64), name)


@pytest.mark.parametrize("name", unhurried(REFUSED))
def test_what_is_no_segmentation_network_is_refused_with_a_sentence(name: str) -> None:
    options, sentence = REFUSED[name]
    given = section(name, options)
    with pytest.raises(UserError, match=sentence) as refusal:
        probe(build(given, 1, 3), (32, 32, 32), channels_out=3)
    assert re.match(r"net\.(name|options)", str(refusal.value))


def test_every_network_of_monai_is_tried() -> None:
    assert {*TRAINED, *PASSING, *REFUSED} == set(monai_names())
