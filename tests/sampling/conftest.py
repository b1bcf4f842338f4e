"""Cases in memory, with the interface of `PreparedCase`, and labels with two sided classes."""

from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.labels import Labels
from pipeline.store.writer import write_case
from pipeline.volume.grid import Grid
from pipeline.volume.volume import Volume


@dataclass(frozen=True, eq=False)
class MemoryCase:
    """What sampling needs of a prepared case, held in two arrays (x, y, z): int16 HU and uint8 class indices."""

    name: str
    grid: Grid
    image: np.ndarray
    encoded: np.ndarray

    def check_hashes(self):
        """Find nothing: there are no files."""

    @property
    def counts(self):
        return {value: count for value, count in enumerate(np.bincount(self.encoded.ravel()).tolist()) if count}

    @property
    def stored_foreground(self):
        return {label: count for label, count in self.counts.items() if label not in (0, 255)}

    def foreground_voxel(self, label, number):
        return tuple(np.argwhere(self.encoded == label)[number].tolist())

    def read(self, start_vox, shape_vox):
        image = np.full(shape_vox, -1024, np.int16)
        encoded = np.zeros(shape_vox, np.uint8)
        low = np.maximum(start_vox, 0)
        high = np.minimum(np.add(start_vox, shape_vox), self.encoded.shape)
        if (high > low).all():
            theirs = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            ours = tuple(slice(a, b) for a, b in zip(low - start_vox, high - start_vox, strict=True))
            image[ours], encoded[ours] = self.image[theirs], self.encoded[theirs]
        return image, encoded


def case_of(encoded, name="case", spacing_mm=(1.0, 1.0, 1.0), image=None):
    encoded = np.asarray(encoded, np.uint8)
    if image is None:
        image = np.random.default_rng(0).integers(-1000, 1000, encoded.shape)
    return MemoryCase(name, Grid(encoded.shape, np.diag([*spacing_mm, 1.0])), np.asarray(image, np.int16), encoded)


def point_case(points, shape=(12, 10, 8), **options):
    encoded = np.zeros(shape, np.uint8)
    for label, voxel in points.items():
        encoded[voxel] = label
    return case_of(encoded, **options)


@pytest.fixture(scope="session")
def make_case():
    """Return a function of an encoded label array to a case."""
    return case_of


@pytest.fixture(scope="session")
def make_point_case():
    """Return a function of {class index: its only voxel} to a case."""
    return point_case


@pytest.fixture(scope="session")
def sided():
    """Left and right (1, 2), which exchange in the mirror, and a class that does not (3)."""
    return Labels(values={"left": 1, "right": 2, "middle": 3}, swap=(("left", "right"),))


@pytest.fixture
def store(tmp_path):
    """Return a folder with two prepared cases, a and b, that have all three classes of `sided`."""
    random = np.random.default_rng(0)
    shape = (20, 16, 12)
    grid = Grid(shape, np.diag((1, 1, 3, 1)))
    for name in ("a", "b"):
        hu = random.integers(-1000, 1000, shape).astype(np.int16)
        encoded = random.choice(4, p=(0.97, 0.01, 0.01, 0.01), size=shape).astype(np.uint8)
        made_from = {"key": "", "source_grid": grid, "crop": ((0, 0, 0), shape), "put_back": {}, "sources": {}}
        write_case(tmp_path / name, name, Volume(hu, grid), encoded, **made_from)
    return tmp_path
