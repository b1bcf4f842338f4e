"""How a store lies on disk. What lies inside a case is private to this room.

<store>/cases.json           which cases there are, see `catalogue`
<store>/cases/<name>/        one prepared case
    image.npy                (x, y, z) int16 HU on the training grid
    label.npy                (x, y, z) uint8, 0..n and 255
    foreground.npy           (n, 3) int32 voxels of the classes, one class after the other
    case.json                grids, statistics, what it was made from; hashes and sizes of the three arrays
"""

from pathlib import Path

FORMAT = 1  # a new number makes every case again: change it with what is stored, and with how it is computed

IMAGE, LABEL, FOREGROUND = "image.npy", "label.npy", "foreground.npy"
ARRAYS = (IMAGE, LABEL, FOREGROUND)
FACTS = "case.json"


def case_folder(store: Path, name: str) -> Path:
    """Return the folder of a prepared case."""
    return store / "cases" / name


def catalogue_file(store: Path) -> Path:
    """Return the file that lists the cases of a store."""
    return store / "cases.json"
