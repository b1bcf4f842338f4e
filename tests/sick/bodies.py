"""Little bodies in memory: water with a slope of HU from left to right, two kidneys and a liver, each of its own HU."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.labels import Labels
from pipeline.volume.grid import Grid, Int3
from pipeline.volume.intensity import histogram
from tests.sampling.conftest import MemoryCase

LABELS = Labels({"left kidney": (1,), "right kidney": (2,), "liver": (3,)}, swap=(("left kidney", "right kidney"),))
SHAPE_VOX = (32, 24, 24)
ORGANS = ((1, (8, 12, 12), 150), (2, (23, 12, 12), 250), (3, (16, 12, 12), 350))  # class, middle, HU
RADIUS_VOX = 4

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Body(MemoryCase):
    """A case whose reading may take its time."""

    delay_s: float = 0.0

    @property
    def histogram(self) -> np.ndarray:
        return histogram(self.image)

    def read(self, start_vox, shape_vox):
        time.sleep(self.delay_s)
        return super().read(start_vox, shape_vox)


def same(voxels: np.ndarray) -> np.ndarray:
    """Change nothing."""
    return voxels


def body(
    seed: int, *, hu: Change = same, labels: Change = same, delay_s: float = 0.0, shape_vox: Int3 = SHAPE_VOX
) -> Body:
    """Return a body whose organs lie up to 2 voxels off their place. hu, labels: what is done to its arrays."""
    random = np.random.default_rng(seed)
    x, y, z = np.indices(shape_vox)
    within = ((x - 15.5) / 15) ** 2 + ((y - 11.5) / 11) ** 2 < 1
    image = np.where(within, 3.0 * x - 50, -1000.0)
    encoded = np.zeros(shape_vox, np.uint8)
    for label, middle, brightness in ORGANS:
        a, b, c = np.add(middle, random.integers(-2, 3, 3))
        organ = (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 <= RADIUS_VOX**2
        image[organ], encoded[organ] = brightness, label
    image = (image + random.normal(0, 20, shape_vox)).clip(-1024, 3000)
    grid = Grid(shape_vox, np.diag((2.0, 2.0, 2.0, 1.0)))
    return Body(f"body{seed}", grid, hu(image).astype(np.int16), labels(encoded).astype(np.uint8), delay_s)


def bodies(count: int, first_seed: int = 0, **changes: Any) -> list[Body]:
    """Return several bodies, see `body`."""
    return [body(seed, **changes) for seed in range(first_seed, first_seed + count)]
