"""Heads over three classes, and a way to build a loss in one line."""

from collections.abc import Callable, Sequence

import pytest
import torch

from pipeline.config.loss import LossSection
from pipeline.head import Head
from pipeline.labels import Labels, Region
from pipeline.losses.build import build
from pipeline.losses.loss import Loss

VALUES = {"liver": (1,), "tumour": (2,), "vessel": (3,)}
REGIONS = (Region("organ", ("liver", "tumour"), "liver"), Region("lesion", ("tumour",), "tumour"))
HEADS = {
    "softmax": Head("softmax", Labels(VALUES)),
    "sigmoid": Head("sigmoid", Labels(VALUES)),
    "regions": Head("regions", Labels(VALUES, regions=REGIONS)),
}


@pytest.fixture(scope="session")
def heads() -> dict[str, Head]:
    return HEADS


@pytest.fixture(scope="session")
def make_loss() -> Callable[..., Loss]:
    def make(kind: str, head_weights: Sequence[float] = (), **keys: object) -> Loss:
        return build(LossSection.model_validate(keys), HEADS[kind], head_weights)

    return make


@pytest.fixture(scope="session")
def random_case() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Logits (2, channels, 5, 6, 4) and labels 0..3; the first sample holds every class."""

    def draw(channels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(2, channels, 5, 6, 4, generator=generator)
        labels = torch.randint(0, 4, (2, 5, 6, 4), generator=generator).to(torch.uint8)
        return logits, labels

    return draw
