"""A network that needs no training, a case in memory, and a batch of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config.net import NetSection
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.model import ModelFacts
from pipeline.monitor.facts import RunFacts
from pipeline.sampling.batch import Batch
from pipeline.sampling.draw import Draw
from pipeline.training.recorder import Recorder
from pipeline.volume.grid import Grid
from pipeline.volume.intensity import Intensity

LABELS = Labels({"bone": (1,), "gland": (2,)})
PATCH_VOX = (8, 8, 8)


@dataclass(frozen=True, eq=False)
class MemoryCase:
    """What validation needs of a prepared case."""

    name: str
    image: np.ndarray
    labels: np.ndarray

    @property
    def grid(self) -> Grid:
        return Grid(self.image.shape, np.diag([2.0, 2.0, 2.0, 1.0]))

    def read(self, start_vox: tuple, shape_vox: tuple) -> tuple[np.ndarray, np.ndarray]:
        assert (tuple(start_vox), tuple(shape_vox)) == ((0, 0, 0), self.image.shape)
        return self.image.copy(), self.labels.copy()


class FindsBone(nn.Module):
    """Logits of the background, of bone (positive above 200 HU), and of a gland, which it never finds."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(50.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        bone = self.sharpness * (image - 0.2)
        return torch.cat([torch.zeros_like(image), bone, torch.full_like(image, -99.0)], 1)


FACTS = ModelFacts(
    head=Head("softmax", LABELS), labels=LABELS, spacing_mm=(2.0, 2.0, 2.0), intensity=Intensity((0, 1000)),
    patch_vox=PATCH_VOX, net=NetSection(), provenance={},
)  # fmt: skip


@pytest.fixture
def facts() -> ModelFacts:
    return FACTS


@pytest.fixture
def net() -> nn.Module:
    return FindsBone()


@pytest.fixture
def make_case():
    """Return a function of a name and the truth (x, y, z) to a case: bone has 1000 HU, all else is water."""

    def make(name: str, labels: np.ndarray) -> MemoryCase:
        return MemoryCase(name, np.where(labels == 1, 1000, 0).astype(np.int16), labels.astype(np.uint8))

    return make


@pytest.fixture
def batch() -> Batch:
    labels = torch.zeros(2, *PATCH_VOX, dtype=torch.uint8)
    labels[:, 2:5, 2:5, 2:5] = 1
    draws = tuple(
        Draw(f"case_{slot}", label, (0, 0, 0), (2, 2, 2), (False,) * 3, (0, 1, slot))
        for slot, label in enumerate((1, None))
    )
    return Batch(labels[:, None].float(), labels, draws)


@pytest.fixture
def run_facts() -> RunFacts:
    """What the rules are told of the run of `net`."""
    return RunFacts(
        network="FindsBone", head="softmax", channels=3, classes=LABELS.names, targets=LABELS.names, partners={},
        entropy="topk", lr=0.01, warmup_steps=0, batch=2, batch_norm=False, not_hu={},
    )  # fmt: skip


@pytest.fixture
def make_recorder(run_facts: RunFacts):
    """Return a function of a folder and a head to the recorder of a run with a Dice and a cross-entropy term."""

    def make(
        folder: Path, head: Head, cases: tuple[str, ...] = ("case_0", "case_1"), every: int = 1, after_step: int = 0
    ) -> Recorder:
        device = torch.device("cpu")
        return Recorder(
            folder, head, ["dice", "topk"], cases, device, facts=run_facts, every=every, after_step=after_step
        )

    return make
