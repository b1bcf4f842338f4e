"""Reading random patches, image and labels, from a store; some 3 minutes.

bash bench/setup.sh              once: nnU-Net in an environment of its own (PEERS=/path/to/python: another)
python bench/patches.py [FOLDER] files are written to a new folder in FOLDER, which must lie on a disk

Read from the same voxels: the store as it is and with store.compress=lz4, what the store was before (one C-ordered .npy
file, mapped, read through NumPy), the same read a row as one item, and nnU-Net's Blosc2 files through its own loader.

warm: the files are in memory. The limit is a contiguous copy of a patch's bytes out of the mapped files.
cold: the kernel was told to forget them before every patch. The limit is the patch's own bytes.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.interpreter import PEERS
from bench.patches_measure import WARM_PATCHES, Int3, Read, cold, positions, warm_ms
from pipeline.log import table
from pipeline.store import arrays
from pipeline.store.reader import PreparedCase
from pipeline.store.tiles import copy_rows
from pipeline.store.writer import write_case
from pipeline.volume.grid import Grid, box_of
from pipeline.volume.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "head_neck"
MADE_VOX = (512, 424, 400)
ORGANS = 60
HEADINGS = ("volume", "patch", "files", "MB", "warm ms", "x copy", "cold ms", "read / patch")
COPY = "contiguous copy: the limit"


@dataclass(frozen=True)
class Files:
    """One way to keep a volume: its files, and what reads a patch from them."""

    paths: tuple[Path, ...]
    read: Read


def example() -> tuple[np.ndarray, np.ndarray]:
    """Return a real CT of 128^3 voxels (int16 HU) with its labels (uint8)."""
    image, labels = (nib.load(EXAMPLE / role / "hn_001.nii.gz").dataobj for role in ("images", "labels"))
    return np.asarray(image).astype(np.int16, "C"), np.asarray(labels).astype(np.uint8, "C")


def made() -> tuple[np.ndarray, np.ndarray]:
    """Return a body of noise in air, with balls of 60 classes: 512 x 424 x 400 voxels."""
    random = np.random.default_rng(0)
    image, labels = np.full(MADE_VOX, -1000, np.int16), np.zeros(MADE_VOX, np.uint8)
    image[40:-40, 40:-40] = random.normal(40, 20, (432, 344, 400)).astype(np.int16)
    x, y, z = np.ogrid[-24:24, -24:24, -24:24]
    ball = x**2 + y**2 + z**2 < 24**2
    for organ in range(1, ORGANS + 1):
        start = tuple(int(random.integers(60, size - 110)) for size in MADE_VOX)
        labels[box_of(start, ball.shape)][ball] = organ
    return image, labels


def store(image: np.ndarray, labels: np.ndarray, folder: Path, compress: str, patch_vox: int) -> Files:
    """Write a volume as a prepared case."""
    grid = Grid(image.shape, np.eye(4))
    if not folder.exists():
        write_case(
            *(folder, "case", Volume(image, grid), labels),
            key="",
            source_grid=grid,
            crop=((0, 0, 0), image.shape),
            put_back={},
            sources={},
            compress=compress,
        )
    case, patch = PreparedCase.open(folder), (patch_vox,) * 3
    return Files(tuple(sorted(folder.glob("[il]*"))), lambda start: case.read(start, patch))


@cache
def mapped(path: Path) -> np.ndarray:
    """Map an .npy file."""
    return np.load(path, mmap_mode="r")


def c_ordered(paths: tuple[Path, ...], patch_vox: int, by_row: bool) -> Files:
    """Return what reads from plain .npy files, a row at a time as one item or as items."""

    def read(start: Int3) -> list[np.ndarray]:
        found = []
        for path in paths:
            box = mapped(path)[box_of(start, (patch_vox,) * 3)]
            patch = np.empty(box.shape, box.dtype)
            copy_rows(box, patch) if by_row else np.copyto(patch, box)
            found.append(patch)
        return found

    return Files(paths, read)


def contiguous(paths: tuple[Path, ...], patch_vox: int) -> Read:
    """Return what copies as many bytes as a patch has from anywhere in mapped files, in one piece."""
    voxels, random = patch_vox**3, np.random.default_rng(1)

    def copy(start: Int3) -> list[np.ndarray]:
        flat = [mapped(path).reshape(-1) for path in paths]
        first = random.integers(flat[0].size - voxels + 1)
        return [array[first : first + voxels].copy() for array in flat]

    return copy


def rows(name: str, image: np.ndarray, labels: np.ndarray, folder: Path, patch_vox: int) -> list[list[str]]:
    """Return the lines of one volume and one size of patch."""
    folder.mkdir(exist_ok=True)
    paths = folder / "image.npy", folder / "label.npy"
    for path, array in zip(paths, (image, labels), strict=True):
        if not path.exists():
            np.save(path, array)
    ways = {
        "the store": store(image, labels, folder / "none", "none", patch_vox),
        "the store, lz4": store(image, labels, folder / "lz4", "lz4", patch_vox),
        "C-ordered .npy": c_ordered(paths, patch_vox, by_row=False),
        "C-ordered .npy, a row as one item": c_ordered(paths, patch_vox, by_row=True),
    }
    starts = positions(image.shape, patch_vox, WARM_PATCHES)
    warm = warm_ms({COPY: contiguous(paths, patch_vox)} | {way: files.read for way, files in ways.items()}, starts)
    lines = [line(name, patch_vox, COPY, "", warm[COPY], warm[COPY], {"ms": 0, "bytes": 0}, 1)]
    patch_bytes = patch_vox**3 * (image.itemsize + labels.itemsize)
    for way, files in ways.items():
        size = sum(path.stat().st_size for path in files.paths)
        from_disk = cold(files.read, starts, files.paths, let_go)
        lines.append(line(name, patch_vox, way, size, warm[way], warm[COPY], from_disk, patch_bytes))
    peer = measure_peer(paths, folder, patch_vox)
    if peer:
        figures = (peer["file_bytes"], peer["warm_ms"], warm[COPY], peer["cold"], patch_bytes)
        lines.append(line(name, patch_vox, peer["name"], *figures))
    return lines


def let_go() -> None:
    """Unmap all files."""
    mapped.cache_clear()
    arrays.mapped.cache_clear()
    arrays.mapped_list.cache_clear()


def measure_peer(paths: tuple[Path, ...], folder: Path, patch_vox: int) -> dict:
    """Return the figures of nnU-Net, {} where it is not there."""
    if not PEERS.exists():
        return {}
    with tempfile.TemporaryDirectory(dir=folder) as saved:
        command = [PEERS, "-m", "bench.patches_peer", *paths, saved, str(patch_vox)]
        done = subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def line(
    volume: str, patch_vox: int, way: str, size: int | str, warm: float, limit: float, from_disk: dict, patch_bytes: int
) -> list[str]:
    """Return one line of the table; a file system that hides what it reads has no cold figures."""
    seen = from_disk["bytes"] > 0
    return [
        *(volume, str(patch_vox), way, f"{size / 1e6:.0f}" if size else ""),
        *(f"{warm:.2f}", f"{warm / limit:.2f}"),
        *((f"{from_disk['ms']:.1f}", f"{from_disk['bytes'] / patch_bytes:.2f}") if seen else ("", "")),
    ]


def main() -> None:
    """Print the table."""
    place = sys.argv[1] if len(sys.argv) > 1 else None
    lines = []
    with tempfile.TemporaryDirectory(dir=place) as folder:
        for name, make, sizes in (("512x424x400", made, (128, 96)), ("example 128^3", example, (96, 64))):
            image, labels = make()
            for patch_vox in sizes:
                lines += rows(name, image, labels, Path(folder) / make.__name__, patch_vox)
    table("Random patches, image and labels", HEADINGS, lines)
    if not PEERS.exists():
        print(f"{PEERS}: not there; bash bench/setup.sh makes it")


if __name__ == "__main__":
    main()
