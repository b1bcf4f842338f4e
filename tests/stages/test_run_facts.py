"""What is told of a run once: what its network is like, and whether its images look like HU."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config.load import load
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.nets.registry import build
from pipeline.stages.run_facts import not_hu, run_facts
from pipeline.volume.intensity import histogram

LABELS = Labels({"LeftLung": (1,), "RightLung": (2,)})


def facts_of(net: nn.Module, *overrides: str, kind: str = "softmax", parts: tuple[str, ...] = ("dice", "ce")):
    return run_facts(load(list(overrides)), Head(kind, LABELS), net, parts, [])


def test_facts_are_those_of_config_head_and_network() -> None:
    facts = facts_of(nn.Identity(), "train.lr=0.02", "train.steps=100", "sample.batch=6", "net.name=monai.UNet")
    assert (facts.network, facts.head, facts.channels) == ("monai.UNet", "softmax", 3)
    assert facts.classes == facts.targets == LABELS.names
    assert facts.partners == {"LeftLung": "RightLung", "RightLung": "LeftLung"}
    assert (facts.lr, facts.warmup_steps, facts.batch, facts.not_hu) == (0.02, 10, 6, {})
    assert (facts.steps, facts.warm, facts.amp, facts.cases) == (100, False, None, 0)
    assert (facts.optimiser, facts_of(nn.Identity(), "train.optimiser=sgd").optimiser) == ("adamw", "sgd")


def test_the_warm_up_of_a_run_in_minutes_is_the_longest_and_its_length_not_known() -> None:
    facts = facts_of(nn.Identity(), "train.minutes=5")
    assert (facts.warmup_steps, facts.steps) == (50, None)


def test_a_norm_sees_the_samples_of_one_rank_and_one_part_together() -> None:
    config = load(["sample.batch=8", "train.accumulate=2"])
    facts = run_facts(config, Head("softmax", LABELS), nn.Identity(), (), [], ranks=4, amp=torch.float16)
    assert (facts.batch, facts.amp) == (1, "float16")


def test_a_run_that_begins_with_trained_weights_is_warm() -> None:
    assert facts_of(nn.Identity(), "train.start_from=some/model").warm is True


@pytest.mark.parametrize(
    ("parts", "entropy"),
    [(("dice", "ce"), "ce"), (("bce", "dice"), "bce"), (("dice", "topk"), "topk"), (("focal",), None)],
)
def test_a_cross_entropy_of_all_voxels_or_the_hardest_is_one(parts: tuple[str, ...], entropy: str | None) -> None:
    assert facts_of(nn.Identity(), parts=parts).entropy == entropy


@pytest.mark.parametrize(("norm", "is_batch_norm"), [("instance", False), ("group", False), ("batch", True)])
def test_a_batch_norm_is_told_from_other_norms(norm: str, is_batch_norm: bool) -> None:
    config = load([f"net.options={{channels: [4, 8], norm: {norm}}}"])
    assert facts_of(build(config.net, 1, 3)).batch_norm is is_batch_norm
    assert facts_of(nn.Sequential(nn.BatchNorm3d(2))).batch_norm is True


def body(rng: np.random.Generator) -> np.ndarray:
    """Return the HU of a body in air: half of it air, then fat, soft tissue and a little bone."""
    parts = [(-1000, 20, 50_000), (-90, 20, 15_000), (40, 25, 32_000), (700, 200, 3_000)]
    return np.concatenate([rng.normal(mean, std, count) for mean, std, count in parts])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda hu: hu, None),
        (lambda hu: hu.clip(-200, 400), None),  # cut off, but HU
        (lambda hu: hu[50_000:], None),  # a crop without air
        (lambda hu: hu + 1024, "HU shifted: none near -1000"),
        (lambda hu: hu - 1024, "not HU"),
        (lambda hu: hu.clip(0, 80), None),  # a brain window, of which less than 0 is left than of anything else
        (lambda hu: (hu.clip(-160, 240) + 160) / 400 * 255, "8-bit picture: values from 0 to 255"),
        (lambda hu: (hu.clip(-200, 400) + 200) / 600, "flat: all values within 10"),  # scaled to 0..1
        (lambda hu: (hu - hu.mean()) / hu.std(), "flat: all values within 20"),  # standardised
    ],
    ids=["HU", "windowed", "crop", "unsigned", "shifted twice", "brain", "8 bits", "0..1", "standardised"],
)
def test_images_that_do_not_look_like_hu_are_named_with_the_reason(change, why: str | None) -> None:
    voxels = np.rint(change(body(np.random.default_rng(0)))).astype(np.int16)
    found = not_hu({"case": histogram(voxels), "empty": np.zeros(410, np.int64)})
    assert ("case" in found) == (why is not None) and "empty" not in found
    if why:
        assert found["case"].startswith(why)


def test_cases_are_looked_at_by_their_histogram() -> None:
    case = SimpleNamespace(name="a", histogram=histogram(np.full(1000, 1040, np.int16)))
    facts = run_facts(load([]), Head("softmax", LABELS), nn.Identity(), (), [case])  # type: ignore[list-item]
    assert (list(facts.not_hu), facts.cases) == (["a"], 1)
