"""A small made-up data set, and the config that prepares it in the test's own process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from pipeline.config.config import Config
from pipeline.config.load import load

SHAPE = (14, 12, 10)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
LABELS = {"background": 0, "liver": 1, "lung": [2, 3]}


@dataclass(frozen=True, eq=False)
class DataSet:
    """A folder with images/, labels/ and dataset.json, and what a sound case of it is made of.

    image: tissue that fills the volume. label: a block of 5 x 5 x 5 voxels of 1 and one of 4 x 5 x 5 voxels of 3.
    """

    folder: Path
    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray

    def write(self, file: str, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
        """Write voxels as a NIfTI file of the data set."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, affine), path)

    def add(self, name: str, image: np.ndarray | None = None, label: np.ndarray | None = None) -> None:
        """Add or replace a case: a sound one, or one with this image or label."""
        self.write(f"images/{name}.nii.gz", self.image if image is None else image)
        self.write(f"labels/{name}.nii.gz", self.label if label is None else label)

    def describe(self, **keys: Any) -> None:
        """Write dataset.json with the classes and these keys."""
        (self.folder / "dataset.json").write_text(json.dumps({"labels": LABELS, **keys}))


@pytest.fixture
def data_set(tmp_path: Path) -> DataSet:
    """A data set with two sound training cases, a and b, and one test case, t."""
    image = np.random.default_rng(0).integers(-100, 200, SHAPE).astype(np.int16)
    label = np.zeros(SHAPE, np.uint8)
    label[2:7, 2:7, 2:7], label[8:12, 2:7, 2:7] = 1, 3
    made = DataSet(tmp_path / "source", image, label, AFFINE)
    for name in "abt":
        made.add(name)
    made.describe(test=["t"])
    return made


@pytest.fixture
def configure(tmp_path: Path, data_set: DataSet) -> Callable[..., Config]:
    """Return a function of overrides to the config that prepares `data_set` at 2 x 2 x 4 mm in this process."""
    standard = [
        f"work={tmp_path / 'work'}",
        f"data.source={data_set.folder}",
        "prepare.workers=0",
        "prepare.spacing_mm=[2,2,4]",
    ]
    return lambda *overrides: load([*standard, *overrides])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where `configure` lets the prepared cases be."""
    return tmp_path / "work" / "store"
