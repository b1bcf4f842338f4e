"""Heads over three classes, and a way to build a loss in one line."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch.nn import functional

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


@pytest.fixture(scope="session")
def line() -> Callable[..., torch.Tensor]:
    """Labels (1, n, 1, 1)."""

    def make(*values: int) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.uint8).view(1, -1, 1, 1)

    return make


@pytest.fixture(scope="session")
def log_odds() -> Callable[..., torch.Tensor]:
    """Sigmoid logits (1, 3, n, 1, 1) with these probabilities in channel 0 and next to none in the others."""

    def make(*probabilities: float) -> torch.Tensor:
        logits = torch.full((1, 3, len(probabilities), 1, 1), -40.0)
        logits[0, 0, :, 0, 0] = torch.tensor(probabilities).logit()
        return logits

    return make


@pytest.fixture(scope="session")
def one_hot() -> Callable[..., torch.Tensor]:
    """Labels (n, x, y, z) of four classes as (n, 4, x, y, z) float32."""

    def make(labels: torch.Tensor) -> torch.Tensor:
        return functional.one_hot(labels.long(), 4).movedim(-1, 1).float()

    return make
