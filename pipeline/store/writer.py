"""A prepared case put on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.checks import count_indices
from pipeline.store.arrays import write_list, write_voxels
from pipeline.store.facts import write_facts
from pipeline.store.foreground import foreground_coordinates
from pipeline.store.layout import FOREGROUND, FORMAT, IMAGE, LABEL, Compress, new_layout
from pipeline.volume.grid import Grid, Int3
from pipeline.volume.intensity import histogram
from pipeline.volume.volume import Volume


def write_case(
    folder: Path,
    name: str,
    image: Volume,
    encoded: np.ndarray,
    *,
    key: str,
    source_grid: Grid,
    crop: tuple[Int3, Int3],
    put_back: Mapping[int, int],
    sources: Mapping[str, Any],
    compress: Compress = "none",
) -> None:
    """Write a prepared case into `folder`, which is made; `PreparedCase.open` reads it.

    image: int16 HU on the training grid. encoded: uint8 of the same shape, 0..n and 255.
    key: a hash of what the case was made from and how, see `Catalogue`.
    source_grid, crop: the grid of the CT, and (start, shape) of the part of it that was kept, in its voxels.
    put_back: class index -> objects that resampling lost and that were put back.
    sources: what identifies the files that it was made of; JSON values.
    compress: "lz4" for smaller files, from which patches are slower to read.
    """
    if image.voxels.dtype != np.int16 or encoded.dtype != np.uint8 or image.voxels.shape != encoded.shape:
        raise ValueError(f"int16 and uint8 of one shape, not {image.voxels.dtype} {image.voxels.shape} "
                         f"and {encoded.dtype} {encoded.shape}")  # fmt: skip
    folder.mkdir(parents=True)
    layout = new_layout(compress, image.grid.shape_vox)
    foreground = foreground_coordinates(encoded)
    coordinates = np.concatenate([np.empty((0, 3), np.int32), *foreground.values()])
    arrays = {
        f"{role}{layout.suffix}": write_voxels(folder / f"{role}{layout.suffix}", array, layout)
        for role, array in ((IMAGE, image.voxels), (LABEL, encoded))
    }
    arrays[FOREGROUND] = write_list(folder / FOREGROUND, coordinates)
    counts = count_indices(encoded)
    facts = {
        "format": FORMAT,
        "name": name,
        "key": key,
        "grid": image.grid.to_json(),
        "source_grid": source_grid.to_json(),
        "crop": {"start_vox": list(crop[0]), "shape_vox": list(crop[1])},
        "counts": {str(index): count for index, count in counts.items()},
        "foreground": {str(label): len(voxels) for label, voxels in foreground.items()},
        "put_back": {str(label): count for label, count in put_back.items()},
        "histogram": histogram(image.voxels).tolist(),
        "sources": dict(sources),
        "layout": layout.to_json(),
        "arrays": arrays,
    }
    write_facts(folder, facts)
