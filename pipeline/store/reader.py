"""A prepared case read from disk, a box at a time."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.cases import leave_out
from pipeline.errors import UserError
from pipeline.labels import IGNORE
from pipeline.store.arrays import read_list, read_voxels
from pipeline.store.catalogue import Catalogue
from pipeline.store.facts import VERIFIED, check_hash, read_facts, whole
from pipeline.store.layout import FACTS, FOREGROUND, IMAGE, LABEL, Layout, case_folder, layout_of_format_1
from pipeline.store.tiles import box_at
from pipeline.volume.grid import Grid, Int3
from pipeline.volume.intensity import AIR_HU

NOT_A_CLASS = (0, IGNORE)


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A CT and its labels on the training grid. Make one with `open`; it may be sent to other processes.

    key: hash of what the case was made from and how.
    grid: the training grid. source_grid: that of the CT.
    crop_start_vox, crop_shape_vox: the part of the CT that is here, in voxels of the CT.
    counts: class index (0 and 255 too) -> voxels, for every one that occurs.
    histogram: (410,) int64 voxels by HU, see `volume.intensity.histogram`.
    put_back: class index -> objects that resampling lost and that were put back.
    stored_foreground: class index -> how many of its voxels `foreground` has.
    hashes: file -> its SHA-256.
    foreground_rows: class index -> (first row, rows) of each of its parts in the file of coordinates.
    table: class index as it is stored -> class index as it is seen, 256 bytes; None where they are the same.
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
    layout: Layout
    foreground_rows: Mapping[int, tuple[tuple[int, int], ...]]
    table: bytes | None = None

    @classmethod
    def open(cls, folder: Path) -> "PreparedCase":
        """Open a prepared case: its facts are read, its arrays only looked at, unless they are younger.

        Raises UserError where it is not there, has a format that cannot be read, or was cut short or altered.
        """
        facts = read_facts(folder)
        with whole(folder / FACTS):
            return from_facts(folder, facts)

    def seen_as(self, table: np.ndarray) -> "PreparedCase":
        """Return the case as if it had been stored with class index `table[i]` in place of each index i.

        table: (256,) uint8, see `classes.class_table`. No file is changed. A merged class has the coordinates of all
        of its parts. Raises ValueError where background becomes anything else, or ignored voxels become a class:
        coordinates of neither were kept.
        """
        if table[0] != 0 or table[IGNORE] not in NOT_A_CLASS:
            raise ValueError("background must stay background, and ignored voxels cannot become a class")
        if all(table[index] == index for index in self.counts):
            return self
        rows: dict[int, tuple[tuple[int, int], ...]] = {}
        for index, parts in self.foreground_rows.items():
            if table[index] not in NOT_A_CLASS:
                rows[int(table[index])] = rows.get(int(table[index]), ()) + parts
        before = np.arange(256, dtype=np.uint8) if self.table is None else np.frombuffer(self.table, np.uint8)
        return replace(
            self,
            counts=added(self.counts, table),
            put_back=added(self.put_back, table),
            stored_foreground={index: sum(size for _, size in parts) for index, parts in rows.items()},
            foreground_rows=rows,
            table=table[before].tobytes(),
        )

    def read(self, start_vox: Int3, shape_vox: Int3) -> tuple[np.ndarray, np.ndarray]:
        """Return a box as contiguous copies: (HU int16, encoded labels uint8), both of `shape_vox`.

        The box may begin or end outside the case, or lie outside altogether: there is air (-1024 HU) and background.
        Raises UserError where the arrays cannot be read any more.
        """
        found = box_at(start_vox, shape_vox, self.grid.shape_vox)
        if found is None:
            return np.full(shape_vox, AIR_HU, np.int16), np.zeros(shape_vox, np.uint8)
        start, inside = found
        label = self._box(LABEL, start, inside, shape_vox, np.uint8, 0)
        if self.table is not None:
            seen = bytearray(label.data).translate(self.table)  # several times faster than NumPy's indexing
            label = np.frombuffer(seen, np.uint8).reshape(shape_vox)
        return self._box(IMAGE, start, inside, shape_vox, np.int16, AIR_HU), label

    def check_hashes(self) -> None:
        """Read the case's files; raise UserError that names the first one that is not as it was written."""
        for file, sha256 in self.hashes.items():
            check_hash(self.folder / file, sha256, VERIFIED)

    def foreground(self, label: int) -> np.ndarray:
        """Return voxels of a class to draw from, (n, 3) int32: all, or a sample of 10,000; (0, 3) where it has none.

        A class that was merged by `seen_as` has those of all its parts.
        """
        stored = self._coordinates()
        parts = [stored[first : first + size] for first, size in self.foreground_rows.get(label, ())]
        return np.concatenate([np.empty((0, 3), np.int32), *parts])

    def foreground_voxel(self, label: int, number: int) -> Int3:
        """Return row `number` of `foreground(label)`, which has `stored_foreground[label]`; no other one is read."""
        for first, size in self.foreground_rows[label]:
            if number < size:
                x, y, z = self._coordinates()[first + number].tolist()
                return x, y, z
            number -= size
        raise IndexError(f"{self.name}: class {label} has no coordinate of that number")

    def _box(
        self, role: str, start: Int3, inside: tuple[slice, slice, slice], shape_vox: Int3, kind: type, outside: int
    ) -> np.ndarray:
        box: np.ndarray = np.empty(shape_vox, kind)
        target = box[inside]
        if target.shape != box.shape:
            box.fill(outside)
        file = role + self.layout.suffix
        read_voxels(self.folder / file, self.hashes[file], self.layout, self.grid.shape_vox, start, target)
        return box

    def _coordinates(self) -> np.ndarray:
        return read_list(self.folder / FOREGROUND, self.hashes[FOREGROUND])


def from_facts(folder: Path, facts: Mapping[str, Any]) -> PreparedCase:
    """Make a case of what case.json says. Raises KeyError, TypeError or ValueError where that is not whole."""
    grid = Grid.from_json(facts["grid"])
    layout = layout_of_format_1(grid.shape_vox) if facts["format"] == 1 else Layout.from_json(facts["layout"])
    sizes = by_class(facts["foreground"])
    firsts = accumulate(sizes.values(), initial=0)
    return PreparedCase(
        name=facts["name"],
        folder=folder,
        key=facts["key"],
        grid=grid,
        source_grid=Grid.from_json(facts["source_grid"]),
        crop_start_vox=tuple(facts["crop"]["start_vox"]),
        crop_shape_vox=tuple(facts["crop"]["shape_vox"]),
        counts=by_class(facts["counts"]),
        histogram=np.array(facts["histogram"], np.int64),
        put_back=by_class(facts["put_back"]),
        stored_foreground=sizes,
        hashes={file: facts["arrays"][file]["sha256"] for file in (*roles(layout), FOREGROUND)},
        layout=layout,
        foreground_rows={index: ((first, sizes[index]),) for index, first in zip(sizes, firsts, strict=False)},
    )


def roles(layout: Layout) -> tuple[str, str]:
    """Return the names of the files of image and labels."""
    return IMAGE + layout.suffix, LABEL + layout.suffix


def by_class(given: Mapping[str, int]) -> dict[int, int]:
    """Turn the keys of a JSON object back into class indices."""
    return {int(label): count for label, count in given.items()}


def added(counts: Mapping[int, int], table: np.ndarray) -> dict[int, int]:
    """Return counts by class index with those of all indices that become the same one added up."""
    sums: dict[int, int] = {}
    for index, count in counts.items():
        sums[int(table[index])] = sums.get(int(table[index]), 0) + count
    return dict(sorted(sums.items()))


def open_store(store: Path, exclude: Collection[str] = ()) -> list[PreparedCase]:
    """Open the training and validation cases of a store, sorted by name, but for those named in `exclude`.

    Raises UserError where there is no store, `exclude` names a case that it does not have, or a case is not prepared,
    was prepared from other files or with other settings than the store was last told, or was cut short or altered.
    """
    catalogue = Catalogue.read(store)
    wanted = [case.name for case in leave_out(catalogue.cases, exclude) if case.is_for_training]
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
