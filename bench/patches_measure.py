"""How reading patches is measured, here and by the peers' interpreter: it needs NumPy only. See `bench/patches.py`."""

import gc
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Int3 = tuple[int, int, int]
Read = Callable[[Int3], object]

WARM_PATCHES = 40
COLD_PATCHES = 10
REPEATS = 5


def positions(shape_vox: Sequence[int], patch_vox: int, number: int) -> list[Int3]:
    """Return the starts of cubes that lie anywhere within a volume, the same ones on every side."""
    random = np.random.default_rng(0)
    free = [max(1, size - patch_vox + 1) for size in shape_vox]
    return [tuple(random.integers(free).tolist()) for _ in range(number)]


def warm_ms(reads: dict[str, Read], starts: Sequence[Int3]) -> dict[str, float]:
    """Return the mean milliseconds of a patch, by name: of each one the least of several runs, in turn."""
    least = {name: [float("inf")] * len(starts) for name in reads}
    for _ in range(REPEATS + 1):  # the first one warms up
        for name, read in reads.items():
            for number, start in enumerate(starts):
                began = time.perf_counter()
                read(start)
                least[name][number] = min(least[name][number], time.perf_counter() - began)
    return {name: 1000 * float(np.mean(seconds)) for name, seconds in least.items()}


def cold(read: Read, starts: Sequence[Int3], files: Sequence[Path], let_go: Callable[[], object]) -> dict[str, float]:
    """Return mean milliseconds of a patch and the mean bytes that it read from disk, with no byte of `files` in memory.

    let_go: unmaps them: the kernel keeps what is mapped.
    """
    taken_ms, taken_bytes = [], []
    for start in starts[:COLD_PATCHES]:
        let_go()
        gc.collect()
        evict(files)
        before, began = bytes_from_disk(), time.perf_counter()
        read(start)
        taken_ms.append(1000 * (time.perf_counter() - began))
        taken_bytes.append(bytes_from_disk() - before)
    return {"ms": float(np.mean(taken_ms)), "bytes": float(np.mean(taken_bytes))}


def evict(files: Sequence[Path]) -> None:
    """Have the kernel write files to disk and forget them."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def bytes_from_disk() -> int:
    """Return how many bytes this process has had read from disk; a file system in memory has none."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))
