"""The arrays of a prepared case in their files: written once, read a box at a time."""

import hashlib
import mmap
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedWriter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.store.blocks import BLOCK_ERRORS, pack, unpack
from pipeline.store.layout import Layout
from pipeline.store.tiles import copy_rows, parts, runs, spans, whole_tiles
from pipeline.volume.grid import Int3

MOST_OPEN = 256  # each mapped file is held open, and a process may open 1024
OFFSET = np.dtype("<i8")


class HashedFile:
    """A file that is hashed while it is written: reading it back would take longer."""

    def __init__(self, stream: BufferedWriter) -> None:
        self._stream, self._hash, self._size = stream, hashlib.sha256(), 0

    def write(self, data: Any) -> None:
        """Append what has the buffer protocol."""
        self._size += self._stream.write(data)
        self._hash.update(data)

    def facts(self) -> dict[str, Any]:
        """Return size in bytes and SHA-256 of what was written."""
        return {"size": self._size, "sha256": self._hash.hexdigest()}


class MappedFile:
    """A file mapped for reading.

    is_cold: whether the last box that was read from it came from disk, at least in part. Only then is it worth its time
    to tell the kernel which bytes are needed.
    """

    def __init__(self, pages: mmap.mmap) -> None:
        self.pages, self.is_cold = pages, True

    def will_need(self, first: int, last: int) -> None:
        """Have these bytes, and none beside them, read at once: page faults would read far around each of them."""
        start = first - first % mmap.PAGESIZE
        self.pages.madvise(mmap.MADV_WILLNEED, start, last - start)


def write_voxels(file: Path, array: np.ndarray, layout: Layout) -> dict[str, Any]:
    """Write an array (x, y, z); return its file's size and SHA-256. A full disk is told by OSError with its number."""
    with file.open("wb") as stream:
        hashed = HashedFile(stream)
        if layout.suffix == ".raw":
            for tile in whole_tiles(array, layout.tile_vox):
                hashed.write(tile.data)
        else:
            packed = [
                pack(tile[first : first + layout.layer_vox])
                for tile in whole_tiles(array, layout.tile_vox)
                for first in range(0, len(tile), layout.layer_vox)
            ]
            ends = np.cumsum([0, *map(len, packed)], dtype=OFFSET) + (len(packed) + 1) * OFFSET.itemsize
            for data in (ends.data, *packed):
                hashed.write(data)
        return hashed.facts()


def write_list(file: Path, array: np.ndarray) -> dict[str, Any]:
    """Write a contiguous array as `.npy`; return the file's size and SHA-256."""
    with file.open("wb") as stream:
        hashed = HashedFile(stream)
        np.lib.format.write_array_header_1_0(hashed, np.lib.format.header_data_from_array_1_0(array))
        hashed.write(array.data)
        return hashed.facts()


def read_voxels(file: Path, sha256: str, layout: Layout, shape_vox: Int3, start_vox: Int3, target: np.ndarray) -> None:
    """Fill `target`, int16 or uint8 with contiguous rows, with the box of its shape at `start_vox` of a stored array.

    shape_vox: of the stored array, within which the box lies. sha256: that of the file, see `mapped`.
    Raises UserError where the file cannot be read.
    """
    source = mapped(file, sha256)
    read = read_packed if layout.suffix == ".lz4" else read_tiles
    before = blocks_from_disk()
    with told_of(file):
        read(source, layout, shape_vox, start_vox, target)
    source.is_cold = blocks_from_disk() > before


def blocks_from_disk() -> int:
    """Return how many blocks this process has had read from disk, ahead of need or not."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock


def read_tiles(source: MappedFile, layout: Layout, shape_vox: Int3, start_vox: Int3, target: np.ndarray) -> None:
    """Fill `target` from tiles that lie in the file as they are, at its end: an .npy file has a header before them."""
    x, y, z = shape_vox
    header = len(source.pages) - x * y * z * target.itemsize
    if header < 0:
        raise ValueError(f"{len(source.pages)} bytes are too few for {x} x {y} x {z} voxels")
    wanted = list(parts(shape_vox, layout.tile_vox, start_vox, target.shape))
    if source.is_cold:
        for first, last in chain.from_iterable(map(runs, wanted)):
            source.will_need(header + first * target.itemsize, header + last * target.itemsize)
    for part in wanted:
        tile = np.ndarray(part.shape_vox, target.dtype, source.pages, header + part.first * target.itemsize)
        copy_rows(tile[part.here], target[part.there])


def read_packed(source: MappedFile, layout: Layout, shape_vox: Int3, start_vox: Int3, target: np.ndarray) -> None:
    """Fill `target` from compressed blocks: a table of where each begins and the last one ends, then the blocks."""
    layers = -(-shape_vox[0] // layout.layer_vox)
    tiles = -(-shape_vox[1] // layout.tile_vox[0]) * -(-shape_vox[2] // layout.tile_vox[1])
    ends = np.ndarray(layers * tiles + 1, OFFSET, source.pages)
    along_x = list(spans(shape_vox[0], layout.layer_vox, start_vox[0], target.shape[0]))
    wanted = list(parts(shape_vox, layout.tile_vox, start_vox, target.shape))
    if source.is_cold:
        source.will_need(0, ends.nbytes)
        for part in wanted:
            first, last = (part.number * layers + number for number in (along_x[0][0], along_x[-1][0] + 1))
            source.will_need(int(ends[first]), int(ends[last]))
    for part in wanted:
        for number, _, size, here, there in along_x:
            block = part.number * layers + number
            data = memoryview(source.pages)[ends[block] : ends[block + 1]]
            voxels = unpack(data, (size, *part.shape_vox[1:]), target.dtype)
            copy_rows(voxels[(here, *part.here[1:])], target[(there, *part.there[1:])])


def read_list(file: Path, sha256: str) -> np.ndarray:
    """Return the array of an `.npy` file, mapped read-only. Raises UserError where it cannot be read."""
    return mapped_list(file, sha256)


@contextmanager
def told_of(file: Path) -> Iterator[None]:
    """Turn what reading a file can raise into a sentence: a store may be moved, or its disk go away, during a run."""
    try:
        yield
    except (OSError, EOFError, ValueError, TypeError, *BLOCK_ERRORS) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{file}: cannot be read any more ({reason}); if the store was moved or removed, put it back; if it "
            "was damaged, run prepare with prepare.verify=true."
        ) from error


@lru_cache(maxsize=MOST_OPEN)
def mapped(file: Path, sha256: str) -> MappedFile:
    """Map a file; the hash tells one that was made again from the one that a process has mapped already."""
    with told_of(file), file.open("rb") as stream:
        return MappedFile(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


@lru_cache(maxsize=MOST_OPEN)
def mapped_list(file: Path, sha256: str) -> np.ndarray:
    """Map an `.npy` file; for the hash see `mapped`."""
    with told_of(file):
        return np.load(file, mmap_mode="r", allow_pickle=False)
