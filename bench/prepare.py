"""The stage `prepare` against nnU-Net's preprocessing of the same files; 10 minutes, or 1 with --quick.

bash bench/setup.sh                        once: nnU-Net in an environment of its own (PEERS=/path/to/python: another)
python bench/prepare.py                    time and peak memory, of examples and of two large CTs that are made
python bench/prepare.py --accuracy         how far our images and labels are from exact ones
python bench/prepare.py --profile          where our time goes

Both read the same NIfTI files and write what training reads, in a process of its own that is kept to one core, in turn;
the least of several runs counts. nnU-Net runs its default plan: SimpleITK, cubic splines by skimage (in slices, with
the nearest slice between them, where spacings differ by more than 3), labels by linear interpolation, Blosc2.
Ours reads, checks, crops to the body, resamples, writes and hashes. Resampling alone is of the whole CT on both sides;
ours includes putting back small objects. The limit is what no program beats: unzipping the files with the fastest
library at hand, and moving source and result through memory once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.interpreter import PEERS
from bench.prepare_accuracy import accuracy_rows
from bench.prepare_cases import Data, examples, made
from pipeline.log import table

ROOT = Path(__file__).resolve().parents[1]
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS")
HEADINGS = ("what", "ours", "nnU-Net", "ratio", "limit", "ours / limit")
MIB = 2**20
COPIED = 256 * MIB


def measure(side: str, data: Data, *flags: str) -> dict:
    """Prepare a data set in a new process and return its figures; with flags it prints for itself."""
    python = str(PEERS) if side == "peer" else sys.executable
    environment = os.environ | dict.fromkeys(THREAD_SETTINGS, "1")
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", f"bench.prepare_{side}", str(data.folder), f"{folder}/out", *map(str, data.spacing_mm)]
        done = subprocess.run([*command, *flags], cwd=ROOT, env=environment, check=True, text=True,
                              stdout=None if flags else subprocess.PIPE)  # fmt: skip
    return {} if flags else json.loads(done.stdout.splitlines()[-1])


def least(runs: list[dict]) -> dict:
    """Return the least of each figure of several runs."""
    kinds = ("seconds", "memory")
    return {kind: {name: min(run[kind][name] for run in runs) for name in runs[0][kind]} for kind in kinds}


def least_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the least time that a piece of work takes."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def bytes_a_second() -> float:
    """Return how many bytes a second memory reads and writes on this core, from a copy."""
    source = np.ones(COPIED, np.uint8)
    target = np.zeros_like(source)
    return 2 * COPIED / least_seconds(lambda: np.copyto(target, source))


def limits_of(data: Data, bandwidth: float) -> dict[str, float]:
    """Return the least seconds that image, label and whole stage could take."""
    moved, unzipping = {"image": 0.0, "label": 0.0}, 0.0
    for kind, bytes_a_voxel in (("image", 2), ("label", 1)):
        for path in sorted((data.folder / f"{kind}s").iterdir()):
            header = nib.load(path).header
            before = np.prod(header.get_data_shape())
            after = before * np.prod(header.get_zooms()) / np.prod(data.spacing_mm)
            moved[kind] += float(before + after) * bytes_a_voxel / bandwidth
            stored = path.read_bytes()
            unzipping += least_seconds(lambda stored=stored: igzip.decompress(stored))
    return moved | {"whole": unzipping + sum(moved.values())}


def rows_of(data: Data, repeats: int, bandwidth: float) -> list[list[str]]:
    """Return the lines of one data set."""
    runs: dict[str, list[dict]] = {"ours": [], "peer": []}
    for _ in range(repeats):
        for side, found in runs.items():
            found.append(measure(side, data))
    ours, theirs = least(runs["ours"]), least(runs["peer"])
    limits = limits_of(data, bandwidth)
    shapes = [nib.load(path).header.get_data_shape() for path in (data.folder / "images").iterdir()]
    nanoseconds = 1e9 / sum(float(np.prod(shape)) for shape in shapes)
    rows = []
    for what, name in (("whole stage", "whole"), ("image alone", "image"), ("labels alone", "label")):
        mine, other, limit = (given[name] * nanoseconds for given in (ours["seconds"], theirs["seconds"], limits))
        rows.append([f"{data.name}: {what}", f"{mine:.3g} ns a voxel", f"{other:.3g} ns", f"{other / mine:.3g}",
                     f"{limit:.2g} ns", f"{mine / limit:.2g}"])  # fmt: skip
    for what, subtracted in (("peak memory", 0), ("peak without imports", 1)):
        mine, other = (
            (side["memory"]["peak"] - subtracted * side["memory"]["imported"]) / MIB for side in (ours, theirs)
        )
        rows.append([f"{data.name}: {what}", f"{mine:.0f} MiB", f"{other:.0f} MiB", f"{other / mine:.3g}", "", ""])
    return rows


def main() -> None:
    """Print the table asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the examples only")
    parser.add_argument("--accuracy", action="store_true", help="against float64 instead of nnU-Net")
    parser.add_argument("--profile", action="store_true", help="our functions by time")
    parser.add_argument("--repeats", type=int, default=2, metavar="N", help="runs of each side (default 2)")
    given = parser.parse_args()
    if not PEERS.exists() and not (given.accuracy or given.profile):
        sys.exit(f"{PEERS}: not there; make it with `bash bench/setup.sh`, or set PEERS=/path/to/python.")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        sets = [examples(Path(folder) / "examples")]
        if not given.quick:
            sets += [made(Path(folder) / "made"), made(Path(folder) / "thick", step_z=5)]
        if given.accuracy:
            table("ours against float64", ["data", "HU apart", "with metal", "least Dice", "ties as they fell"],
                  [row for data in sets for row in accuracy_rows(data)])  # fmt: skip
        elif given.profile:
            for data in sets:
                measure("ours", data, "--profile")
        else:
            bandwidth = bytes_a_second()
            rows = [row for data in sets for row in rows_of(data, given.repeats, bandwidth)]
            table(f"one core, memory at {bandwidth / 2**30:.1f} GiB/s", HEADINGS, rows)


if __name__ == "__main__":
    main()
