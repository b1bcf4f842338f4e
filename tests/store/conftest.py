"""Prepared cases of made-up voxels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.store.layout import Compress, case_folder
from pipeline.store.writer import write_case
from pipeline.volume.grid import Grid
from pipeline.volume.volume import Volume

MakeCase = Callable[..., tuple[Path, np.ndarray, np.ndarray]]


@pytest.fixture
def make_case(tmp_path: Path) -> MakeCase:
    """Return a function that writes a prepared case: (its folder, HU, encoded labels)."""

    def make(
        name: str = "case", encoded: np.ndarray | None = None, key: str = "key", compress: Compress = "none"
    ) -> tuple[Path, np.ndarray, np.ndarray]:
        random = np.random.default_rng(0)
        if encoded is None:
            encoded = random.choice([0, 0, 0, 1, 3, 255], (9, 8, 7)).astype(np.uint8)
        image = random.integers(-1000, 2000, encoded.shape).astype(np.int16)
        folder = case_folder(tmp_path, name)
        write_case(
            *(folder, name, Volume(image, Grid(encoded.shape, np.diag([2.0, 2.0, 3.0, 1.0]))), encoded),
            key=key,
            source_grid=Grid((20, 18, 16), np.eye(4)),
            crop=((1, 2, 3), (18, 16, 13)),
            put_back={3: 1},
            sources={"image": {"path": "/data/images/case.nii.gz", "size": 1, "mtime_ns": 2}},
            compress=compress,
        )
        return folder, image, encoded

    return make
