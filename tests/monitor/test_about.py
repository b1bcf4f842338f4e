"""What a run says of its data."""

from dataclasses import dataclass, field

import numpy as np

from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.config.net import NetSection
from pipeline.head import Head
from pipeline.labels import IGNORE, Labels
from pipeline.model import ModelFacts
from pipeline.monitor.about import about
from pipeline.volume.grid import Grid
from pipeline.volume.intensity import Intensity

LABELS = Labels({"bone": (1,), "left|right": (2,)})
FACTS = ModelFacts(
    head=Head("softmax", LABELS), labels=LABELS, spacing_mm=(1.5, 1.5, 3.0),
    intensity=Intensity((-200, 400), 1, 0.25, 0.5), patch_vox=(8, 8, 8), net=NetSection(),
)  # fmt: skip


@dataclass
class Told:
    """What is told of a prepared case."""

    name: str
    counts: dict[int, int]
    shape_vox: tuple[int, int, int] = (10, 10, 10)
    source_mm: tuple[float, float, float] = (1.0, 1.0, 2.5)
    hashes: dict[str, str] = field(default_factory=lambda: {"image.zst": "a"})

    @property
    def grid(self) -> Grid:
        return Grid(self.shape_vox, np.diag([1.5, 1.5, 3.0, 1.0]))

    @property
    def source_grid(self) -> Grid:
        return Grid((5, 5, 5), np.diag([*self.source_mm, 1.0]))


A = Told("a", {0: 900, 1: 60, IGNORE: 40})
B = Told("b", {0: 1000, 1: 20, 2: 20}, shape_vox=(10, 12, 10), source_mm=(1.0, 1.0, 5.0))
C = Told("c", {0: 1000, 2: 7})


def lines_of(training: list[Told], held_out: list[Told]) -> list[str]:
    return about(load([]), FACTS, training, held_out)["data"].splitlines()


def test_cases_sizes_and_intensities_are_told() -> None:
    lines = lines_of([A, B], [C])
    for line in (
        "| cases to learn from | 2: a, b |", "| cases held out | 1: c |", "| spacing, mm | 1.5 x 1.5 x 3 |",
        "| spacing of the CTs, mm | 1 x 1 x 2.5..5 |", "| size, voxels | 10 x 10..12 x 10 |",
        "| HU window | -200 to 400 |", "| standardised by | mean 0.25, standard deviation 0.5 of the window |",
    ):  # fmt: skip
        assert line in lines, line


def test_classes_are_counted_where_they_are_and_ignored_voxels_are_none() -> None:
    lines = lines_of([A, B], [C])
    # 2000 voxels are annotated: 960 of a and 1040 of b; 80 are bone, 20 the other class.
    assert lines[-2:] == ["| bone | 2 | 0 | 4.000% |", "| left\\|right | 1 | 1 | 1.000% |"]


def test_without_held_out_cases_there_are_none() -> None:
    assert "| cases held out | none |" in lines_of([A], [])


def test_the_hash_is_of_the_arrays_whatever_is_held_out() -> None:
    def hash_of(training: list[Told], held_out: list[Told]) -> str:
        (line,) = (line for line in lines_of(training, held_out) if "SHA-256" in line)
        return line

    changed = Told("b", B.counts, hashes={"image.zst": "another"})
    assert hash_of([A, B], [C]) == hash_of([C, B], [A]) != hash_of([A, changed], [C])


def test_the_config_is_the_one_that_runs() -> None:
    text = about(load(["train.steps=7"]), FACTS, [A], [])["config"]
    assert text.startswith("```yaml\n") and text.endswith("```") and "\n  steps: 7\n" in text
    assert all(f"\n{section}:" in text for section in ("data", "train", "infer") if section in Config.model_fields)
