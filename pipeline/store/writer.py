"""A prepared case put on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import hash_file, write_json
from pipeline.store.foreground import foreground_coordinates
from pipeline.store.layout import ARRAYS, FACTS, FOREGROUND, FORMAT, IMAGE, LABEL
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
) -> None:
    """Write a prepared case into `folder`, which is made; `PreparedCase.open` reads it.

    image: int16 HU on the training grid. encoded: uint8 of the same shape, 0..n and 255.
    key: a hash of what the case was made from and how, see `Catalogue`.
    source_grid, crop: the grid of the CT, and (start, shape) of the part of it that was kept, in its voxels.
    put_back: class index -> objects that resampling lost and that were put back.
    sources: what identifies the files that it was made of; JSON values.
    """
    if image.voxels.dtype != np.int16 or encoded.dtype != np.uint8 or image.voxels.shape != encoded.shape:
        raise ValueError(f"int16 and uint8 of one shape, not {image.voxels.dtype} {image.voxels.shape} "
                         f"and {encoded.dtype} {encoded.shape}")  # fmt: skip
    folder.mkdir(parents=True)
    foreground = foreground_coordinates(encoded)
    coordinates = np.concatenate([np.empty((0, 3), np.int32), *foreground.values()])
    for file, array in ((IMAGE, image.voxels), (LABEL, encoded), (FOREGROUND, coordinates)):
        save(folder / file, np.ascontiguousarray(array))
    values, counts = np.unique(encoded, return_counts=True)
    facts = {
        "format": FORMAT,
        "name": name,
        "key": key,
        "grid": image.grid.to_json(),
        "source_grid": source_grid.to_json(),
        "crop": {"start_vox": list(crop[0]), "shape_vox": list(crop[1])},
        "counts": {str(value): int(count) for value, count in zip(values, counts, strict=True)},
        "foreground": {str(label): len(voxels) for label, voxels in foreground.items()},
        "put_back": {str(label): count for label, count in put_back.items()},
        "histogram": histogram(image.voxels).tolist(),
        "sources": dict(sources),
        "arrays": {file: array_facts(folder / file) for file in ARRAYS},
    }
    write_json(folder / FACTS, facts)


def save(file: Path, array: np.ndarray) -> None:
    """Write a contiguous array as `.npy`. Unlike np.save it tells a full disk by its error number."""
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.data)


def array_facts(file: Path) -> dict[str, Any]:
    """Return size in bytes and SHA-256 of a file."""
    return {"size": file.stat().st_size, "sha256": hash_file(file)}
