"""How a store lies on disk. What lies inside a case is private to this room.

<store>/cases.json           which cases there are, see `catalogue`
<store>/cases/<name>/        one prepared case
    image.raw, label.raw     int16 HU and uint8 class indices on the training grid, in the order of `tiles`,
    image.lz4, label.lz4     or the same compressed, see `blocks`
    foreground.npy           (n, 3) int32 voxels of the classes, one class after the other
    case.json                grids, statistics, what it was made from; sizes and hashes of the three arrays; see `facts`

Format 1 had image.npy and label.npy, which are read as one tile.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

from pipeline.volume.grid import Int3

FORMAT = 2  # a new number makes every case again: change it with what is stored, and with how it is computed
READABLE_FORMATS = (1, 2)

IMAGE, LABEL, FOREGROUND = "image", "label", "foreground.npy"  # the first two without the suffix of their order
FACTS = "case.json"

LONGEST_ROW_VOX = 256

Compress = Literal["none", "lz4"]


@dataclass(frozen=True)
class Layout:
    """How the voxels of a case are ordered in its files.

    suffix: of the files. tile_vox: sizes of a tile along y and z. layer_vox: of a compressed block along x.
    """

    suffix: Literal[".npy", ".raw", ".lz4"]
    tile_vox: tuple[int, int]
    layer_vox: int

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"suffix": self.suffix, "tile_vox": list(self.tile_vox), "layer_vox": self.layer_vox}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Layout":
        """Make a layout of what `to_json` gave. Raises KeyError, TypeError or ValueError where that is not whole."""
        y, z = given["tile_vox"]
        if given["suffix"] not in (".npy", ".raw", ".lz4") or min(y, z, given["layer_vox"]) < 1:
            raise ValueError(f"layout {dict(given)}")
        return cls(given["suffix"], (y, z), given["layer_vox"])


def new_layout(compress: Compress, shape_vox: Int3) -> Layout:
    """Return how the voxels of a new case of `shape_vox` are ordered.

    A C-ordered array is read fastest as long as its rows along z are not much longer than a patch's; longer ones are
    cut into equal tiles of at most 256 voxels, over all of y. Compressed blocks are 32 x 32 x 96 voxels: large enough
    to shrink, small enough that few voxels beside a patch are decompressed. `bench/patches.py` shows what this gives.
    """
    if compress == "lz4":
        return Layout(".lz4", (32, 96), 32)
    depth = shape_vox[2]
    return Layout(".raw", (shape_vox[1], ceil(depth / ceil(depth / LONGEST_ROW_VOX))), shape_vox[0])


def layout_of_format_1(shape_vox: Int3) -> Layout:
    """Return how the first format ordered voxels: a C-ordered array in an .npy file is one tile behind a header."""
    return Layout(".npy", shape_vox[1:], shape_vox[0])


def case_folder(store: Path, name: str) -> Path:
    """Return the folder of a prepared case."""
    return store / "cases" / name


def catalogue_file(store: Path) -> Path:
    """Return the file that lists the cases of a store."""
    return store / "cases.json"
