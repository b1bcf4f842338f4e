"""A prepared case read from disk, a box at a time."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.cases import leave_out
from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.store.catalogue import Catalogue
from pipeline.store.layout import FACTS, FOREGROUND, FORMAT, IMAGE, LABEL, case_folder
from pipeline.volume.grid import Grid, Int3
from pipeline.volume.intensity import AIR_HU

MOST_OPEN = 256  # each mapped array holds a file open, of which a process may have 1024


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A CT and its labels on the training grid. Make one with `open`; it may be sent to other processes.

    key: hash of what the case was made from and how.
    grid: the training grid. source_grid: that of the CT.
    crop_start_vox, crop_shape_vox: the part of the CT that is here, in voxels of the CT.
    counts: class index (0 and 255 too) -> voxels, for every one that occurs.
    histogram: (410,) int64 voxels by HU, see `volume.intensity.histogram`.
    put_back: class index -> objects that resampling lost and that were put back.
    """

    name: str
    folder: Path
    key: str
    grid: Grid
    source_grid: Grid
    crop_start_vox: Int3
    crop_shape_vox: Int3
    counts: Mapping[int, int]
    histogram: np.ndarray
    put_back: Mapping[int, int]
    stored_foreground: Mapping[int, int]
    hashes: Mapping[str, str]

    @classmethod
    def open(cls, folder: Path) -> "PreparedCase":
        """Open a prepared case: its facts are read, its arrays only looked at.

        Raises UserError where it is not there, has another format, or an array is missing or of another size.
        """
        facts = read_facts(folder)
        return cls(
            name=facts["name"],
            folder=folder,
            key=facts["key"],
            grid=Grid.from_json(facts["grid"]),
            source_grid=Grid.from_json(facts["source_grid"]),
            crop_start_vox=tuple(facts["crop"]["start_vox"]),
            crop_shape_vox=tuple(facts["crop"]["shape_vox"]),
            counts=by_class(facts["counts"]),
            histogram=np.array(facts["histogram"], np.int64),
            put_back=by_class(facts["put_back"]),
            stored_foreground=by_class(facts["foreground"]),
            hashes={file: array["sha256"] for file, array in facts["arrays"].items()},
        )

    def read(self, start_vox: Int3, shape_vox: Int3) -> tuple[np.ndarray, np.ndarray]:
        """Return a box as contiguous copies: (HU int16, encoded labels uint8), both of `shape_vox`.

        The box may begin or end outside the case, or lie outside altogether: there is air (-1024 HU) and background.
        Raises UserError where the arrays cannot be read any more.
        """
        image = np.full(shape_vox, AIR_HU, np.int16)
        label = np.zeros(shape_vox, np.uint8)
        theirs, ours = [], []
        for start, size, whole in zip(start_vox, shape_vox, self.grid.shape_vox, strict=True):
            first, last = max(start, 0), min(start + size, whole)
            if first >= last:
                return image, label
            theirs.append(slice(first, last))
            ours.append(slice(first - start, last - start))
        image[tuple(ours)] = self._array(IMAGE)[tuple(theirs)]
        label[tuple(ours)] = self._array(LABEL)[tuple(theirs)]
        return image, label

    def foreground(self, label: int) -> np.ndarray:
        """Return voxels of a class to draw from, (n, 3) int32: all, or a sample of 10,000; (0, 3) where it has none."""
        start = sum(count for other, count in self.stored_foreground.items() if other < label)
        return np.array(self._array(FOREGROUND)[start : start + self.stored_foreground.get(label, 0)])

    def _array(self, file: str) -> np.ndarray:
        return mapped(self.folder / file, self.hashes[file])


def open_store(store: Path, exclude: Collection[str] = ()) -> list[PreparedCase]:
    """Open the training cases of a store, sorted by name, but for those named in `exclude`.

    Raises UserError where there is no store, `exclude` names a case that it does not have, or a case is not prepared,
    or was prepared from other files or with other settings than the store was last told.
    """
    catalogue = Catalogue.read(store)
    wanted = [case.name for case in leave_out(catalogue.cases, exclude) if case.split == "train"]
    folders = {name: case_folder(store, name) for name in sorted(wanted)}
    cases = [PreparedCase.open(folder) for folder in folders.values() if (folder / FACTS).exists()]
    current = [case for case in cases if case.key == catalogue.keys.get(case.name)]
    unfit = sorted(set(wanted) - {case.name for case in current})
    if unfit:
        listed = ", ".join(unfit[:8]) + (f" and {len(unfit) - 8} more" if len(unfit) > 8 else "")
        raise UserError(
            f"{store}: {len(unfit)} of {len(wanted)} training cases are not prepared as the data and the config stand "
            f"({listed}); run prepare, or leave them out with data.exclude."
        )
    return current


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what case.json says, after a look at whether the arrays are those it tells of."""
    path = folder / FACTS
    if not path.exists():
        raise UserError(f"{folder}: no prepared case; run prepare.")
    facts = read_json(path)
    found = facts.get("format") if isinstance(facts, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: format {found!r}, expected {FORMAT}; run prepare to make the case again.")
    for file, array in facts["arrays"].items():
        size = (folder / file).stat().st_size if (folder / file).is_file() else 0
        if size != array["size"]:
            raise UserError(
                f"{folder / file}: {size} bytes, expected {array['size']}; remove {folder} and run prepare "
                "to make it again."
            )
    return facts


def by_class(given: Mapping[str, int]) -> dict[int, int]:
    """Turn the keys of a JSON object back into class indices."""
    return {int(label): count for label, count in given.items()}


@lru_cache(maxsize=MOST_OPEN)
def mapped(path: Path, sha256: str) -> np.ndarray:
    """Map an array; the hash tells one that was made again from the one that a process has mapped already.

    Raises UserError where it cannot be read: a store may be moved, or its disk go away, during a run.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path}: cannot be read any more ({reason}); if the store was moved or removed, put it back, or run "
            "prepare again."
        ) from error
