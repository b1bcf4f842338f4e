"""The two CTs that `bench/monai.py` measures on: an example, and a larger one that is made."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from pipeline.dataset.checks import load_pair
from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.labels import Labels
from pipeline.volume.grid import Float3, Grid
from pipeline.volume.intensity import Intensity
from pipeline.volume.volume import Volume

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "head_neck"
MADE_VOX = (256, 256, 200)
MADE_MM: Float3 = (1.2, 1.2, 2.0)
ORGANS = 14
INTENSITY = Intensity(window_hu=(-200, 400), mean=0.4, std=0.3)


@dataclass(frozen=True, eq=False)
class Scan:
    """A CT (int16 HU) with its encoded labels (uint8)."""

    name: str
    image: Volume
    encoded: np.ndarray
    labels: Labels


def example_scan() -> Scan:
    """Return the first example: 128x128x128 voxels, five organs."""
    labels = read_labels(EXAMPLE)
    assert labels is not None, "dataset.json names the classes"
    image, label = load_pair(find_cases(EXAMPLE, labels)[0], labels)
    return Scan("example CT", image, label.voxels, labels)


def made_scan() -> Scan:
    """Return a body of noise with 14 ellipsoids, in air: 256x256x200 voxels of 1.2x1.2x2 mm."""
    random = np.random.default_rng(0)
    hu = np.full(MADE_VOX, -1000, np.int16)
    hu[16:-16, 40:-40] = random.normal(0, 20, (224, 176, 200))
    encoded = np.zeros(MADE_VOX, np.uint8)
    for organ in range(1, ORGANS + 1):
        centre = [random.integers(size // 4, size - size // 4) for size in MADE_VOX]
        paint(encoded, organ, centre, random.uniform(8, 28, 3))
    hu += encoded.astype(np.int16) * 20
    labels = Labels({f"organ {organ}": (organ,) for organ in range(1, ORGANS + 1)})
    return Scan("256x256x200", Volume(hu, Grid(MADE_VOX, np.diag([*MADE_MM, 1.0]))), encoded, labels)


def paint(encoded: np.ndarray, organ: int, centre: list, radii_vox: np.ndarray) -> None:
    """Draw an ellipsoid into labels."""
    squares = [
        ((np.arange(size) - middle) / radius) ** 2
        for size, middle, radius in zip(encoded.shape, centre, radii_vox, strict=True)
    ]
    encoded[np.add.outer(np.add.outer(squares[0], squares[1]), squares[2]) <= 1] = organ


def scan_of(name: str) -> Scan:
    """Return a scan by its short name: example or made."""
    return example_scan() if name == "example" else made_scan()


def tensor_of(voxels: np.ndarray, grid: Grid) -> MetaTensor:
    """Return voxels as MONAI's transforms take them: (1, x, y, z) with the affine."""
    affine = torch.from_numpy(grid.affine_mm.copy())
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(voxels)[None]), affine=affine)
