"""Healthy runs of different networks, losses, heads and seeds: the rules say nothing about any of them."""

from collections.abc import Callable

import pytest

from pipeline.labels import Labels, Region
from tests.sick.bodies import bodies

REGIONS = Labels(
    {"left kidney": (1,), "right kidney": (2,), "liver": (3,)},
    (Region("kidneys", ("left kidney", "right kidney"), "left kidney"), Region("liver", ("liver",), "liver")),
)
TWO_VALIDATIONS = ("train.steps=100", "train.validate_every_steps=50", "train.lr=2e-2")
HELD_OUT = bodies(1, first_seed=100)
DYNUNET = "kernel_size: [3, 3, 3], strides: [1, 2, 2], upsample_kernel_size: [2, 2], filters: [4, 8, 8]"

QUICK = {
    "the default": (),
    "sigmoid and another seed": ("head.kind=sigmoid", "seed=1"),
    "MONAI's UNet": ("net.name=monai.UNet", "net.options={channels: [4, 8], strides: [2]}"),
}
SLOW = {
    "three stages": ("net.options={channels: [4, 8, 8]}", "seed=2"),
    "residual blocks and gates": ("net.options={channels: [4, 8], block: residual, attention_gates: true}", "seed=3"),
    "batch norm, linear upsampling": ("net.options={channels: [4, 8], norm: batch, upsampling: linear}", "seed=4"),
    "transposed upsampling, dropout": ("net.options={channels: [4, 8], upsampling: transposed, dropout: 0.1}",),
    "deep supervision": ("net.options={channels: [4, 8, 8], deep_supervision: 1}", "seed=5"),
    "Dice alone": ("loss.name=dice", "seed=6"),
    "cross-entropy alone": ("loss.name=ce", "seed=7"),
    "binary cross-entropy alone": ("head.kind=sigmoid", "loss.name=bce", "seed=8"),
    "focal": ("loss.name=focal", "seed=9"),
    "focal Tversky": ("loss.name=focal_tversky", "head.kind=sigmoid", "seed=10"),
    "generalised Dice": ("loss.name=generalised_dice", "seed=11"),
    "top-k": ("loss.name=dice_topk", "seed=12"),
    "structure": ("loss.name=structure", "head.kind=sigmoid", "seed=13"),
    "weights": ("loss.class_weights={background: 0.3}", "seed=14"),
    "a low rate": ("train.lr=3e-4", "head.kind=sigmoid", "seed=15"),
    "a high rate": ("train.lr=5e-2", "seed=16"),
    "augmented and mirrored": ("augment.preset=light", "augment.mirror=[x]", "seed=17"),
    "SegResNet": ("net.name=monai.SegResNet", "net.options={init_filters: 8, blocks_down: [1, 1], blocks_up: [1]}"),
    "UCTransNet3d": (
        "net.name=UCTransNet3d", "net.options={width: 4, layers: 1, token_vox: 8}", "sample.patch_vox=[32, 32, 32]",
        "sample.batch=1", "train.steps=60", "train.validate_every_steps=30",
    ),
    "TransFuse3d": (
        "net.name=TransFuse3d", "net.options={channels: [4, 8, 8], blocks: [1, 1, 1], dim: 12, depth: 1, heads: 2}",
        "sample.patch_vox=[32, 32, 32]", "train.steps=60", "train.validate_every_steps=30",
    ),
    "DynUNet": ("net.name=monai.DynUNet", f"net.options={{{DYNUNET}}}", "seed=18"),
    "DynUNet with heads": (
        "net.name=monai.DynUNet", f"net.options={{{DYNUNET}, deep_supervision: true, deep_supr_num: 1}}", "seed=19",
    ),
    "AttentionUnet": ("net.name=monai.AttentionUnet", "net.options={channels: [4, 8], strides: [2]}", "seed=20"),
}  # fmt: skip


@pytest.mark.parametrize("overrides", QUICK.values(), ids=QUICK)
def test_a_healthy_run_raises_nothing(train: Callable, overrides: tuple[str, ...]) -> None:
    assert train(*TWO_VALIDATIONS, *overrides, held_out=HELD_OUT).names == []


@pytest.mark.slow
@pytest.mark.parametrize("overrides", SLOW.values(), ids=SLOW)
def test_healthy_runs_of_many_kinds_raise_nothing(train: Callable, overrides: tuple[str, ...]) -> None:
    assert train(*TWO_VALIDATIONS, *overrides, held_out=HELD_OUT).names == []


@pytest.mark.slow
def test_a_healthy_run_of_regions_raises_nothing(train: Callable) -> None:
    assert train(*TWO_VALIDATIONS, "head.kind=regions", held_out=HELD_OUT, labels=REGIONS).names == []


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_healthy_run_over_many_validations_raises_nothing(train: Callable, kind: str) -> None:
    steps = ("train.steps=160", "train.validate_every_steps=32", "train.lr=5e-2")
    course = train(*steps, f"head.kind={kind}", held_out=HELD_OUT, quick=True)
    assert course.names == []
    assert min(course.checkups[-1].dice.values()) > 0.7
