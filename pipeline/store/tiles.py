"""The order of voxels in a file: cut across y and z into tiles, one after the other, each whole along x.

A C-ordered array is one tile. In a volume much larger than a patch its rows lie so far apart that a disk, and the
memory's prefetching, read mostly what is not wanted.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.volume.grid import Int3, box_of


class Part(NamedTuple):
    """What a box takes from one tile.

    first: voxels that lie before the tile in the file. number: tiles before it. shape_vox: of the whole tile.
    here: the part of the tile, in its own voxels. there: the part of the box, in the box's voxels.
    """

    first: int
    number: int
    shape_vox: Int3
    here: tuple[slice, slice, slice]
    there: tuple[slice, slice, slice]


def parts(shape_vox: Int3, tile_vox: tuple[int, int], start_vox: Int3, box_vox: Int3) -> Iterator[Part]:
    """Yield what a box takes from each tile of an array, in the order of the file. The box lies within the array."""
    width, height, depth = shape_vox
    across = -(-depth // tile_vox[1])
    z_spans = list(spans(depth, tile_vox[1], start_vox[2], box_vox[2]))
    x_here, x_there = slice(start_vox[0], start_vox[0] + box_vox[0]), slice(0, box_vox[0])
    for y_number, y, y_size, y_here, y_there in spans(height, tile_vox[0], start_vox[1], box_vox[1]):
        for z_number, z, z_size, z_here, z_there in z_spans:
            yield Part(
                first=width * (y * depth + y_size * z),
                number=y_number * across + z_number,
                shape_vox=(width, y_size, z_size),
                here=(x_here, y_here, z_here),
                there=(x_there, y_there, z_there),
            )


def runs(part: Part) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of each run of voxels in the file that holds rows of a part: one for each of its planes."""
    x, y, _ = part.here
    _, height, depth = part.shape_vox
    if (y.start, y.stop) == (0, height):
        yield part.first + x.start * height * depth, part.first + x.stop * height * depth
        return
    for plane in range(x.start, x.stop):
        first = part.first + plane * height * depth
        yield first + y.start * depth, first + y.stop * depth


def spans(whole: int, step: int, start: int, size: int) -> Iterator[tuple[int, int, int, slice, slice]]:
    """Yield what `size` voxels from `start` on take from pieces of `step` along an axis of `whole` voxels.

    Of each piece: its number, its first voxel, its size, the slice of it and the slice of the `size` voxels.
    """
    for number in range(start // step, -(-(start + size) // step)):
        first = number * step
        last = min(first + step, whole)
        low, high = max(start, first), min(start + size, last)
        yield number, first, last - first, slice(low - first, high - first), slice(low - start, high - start)


def whole_tiles(array: np.ndarray, tile_vox: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the tiles of an array (x, y, z) in the order of the file, as contiguous copies."""
    for part in parts(array.shape, tile_vox, (0, 0, 0), array.shape):
        yield np.ascontiguousarray(array[part.there])


def copy_rows(source: np.ndarray, target: np.ndarray) -> None:
    """Copy voxels between arrays of one shape and type whose rows along z are contiguous.

    A row is copied as one item, which NumPy does several times faster than a row of items.
    """
    row = np.dtype((np.void, source.shape[2] * source.itemsize))
    target.view(row)[...] = source.view(row)


def box_at(start_vox: Int3, box_vox: Int3, shape_vox: Int3) -> tuple[Int3, tuple[slice, slice, slice]] | None:
    """Return where a box lies within an array: (first voxel there, the part of the box); None where it does not."""
    low = [max(start, 0) for start in start_vox]
    high = [min(start + size, whole) for start, size, whole in zip(start_vox, box_vox, shape_vox, strict=True)]
    if any(first >= last for first, last in zip(low, high, strict=True)):
        return None
    x, y, z = (first - start for first, start in zip(low, start_vox, strict=True))
    width, height, depth = (last - first for first, last in zip(low, high, strict=True))
    return (low[0], low[1], low[2]), box_of((x, y, z), (width, height, depth))
