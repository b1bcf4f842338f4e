"""Augmented patches of 96^3 voxels against nnU-Net's and MONAI's, on one core, in turn; half an hour.

bash bench/setup.sh
python bench/augment.py
python bench/augment.py --draws 100 --data examples --chain default

The peers run in an environment of their own: `PEERS=/path/to/python`, or the one that `bench/setup.sh` makes. Every
side draws about foreground voxels: ours from a store, nnU-Net's own loader from its own blosc2 files, MONAI's from
volumes in memory, with fore- and background looked for in every draw, as its crop does, or found beforehand ("indices
kept"). Data: the example cases, and a made volume of 512x424x400 voxels. A time is the mean over the draws, reading
included. The sides take turns, a tenth of the draws or 20 s at a time. A ratio is the peer's time over ours.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.interpreter import PEERS
from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.dataset.checks import load_pair
from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.log import table
from pipeline.sampling.augment import make_patch
from pipeline.sampling.draw import draw
from pipeline.sampling.index import Index, build_index
from pipeline.store.reader import PreparedCase
from pipeline.store.writer import write_case
from pipeline.volume.grid import Grid
from pipeline.volume.intensity import Intensity
from pipeline.volume.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = SampleSection(patch_vox=(96, 96, 96), batch=1, positive=1.0)
INTENSITY = Intensity(window_hu=(-200, 400), mean=0.4, std=0.3)
TURNS, TURN_S = 10, 20
MADE_VOX = (512, 424, 400)
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

PROBABILITIES = [key for key in AugmentSection.model_fields if key.endswith("_probability")]
CERTAIN = dict.fromkeys(PROBABILITIES, 1.0)
CHAINS = {
    "default": AugmentSection(mirror=("x", "y", "z")),
    "all on": AugmentSection(**CERTAIN | {"elastic_probability": 0.0}, mirror=("x", "y", "z")),
    "all on, elastic too": AugmentSection(**CERTAIN, mirror=("x", "y", "z")),
}
PEERS_OF = {
    "default": ("nnU-Net", "MONAI", "MONAI, indices kept"),
    "all on": ("nnU-Net", "MONAI", "MONAI, indices kept"),
    "all on, elastic too": ("nnU-Net",),
}

Side = Callable[[int], tuple[int, float]]  # makes so many patches, or fewer in TURN_S; returns how many and the seconds


class Scan(NamedTuple):
    """A CT (int16 HU) with its encoded labels (uint8)."""

    name: str
    image: Volume
    encoded: np.ndarray
    labels: Labels


def main() -> None:
    """Print one line for each data set, chain and peer."""
    if any(os.environ.get(name) != "1" for name in THREADS):  # read when NumPy is imported: start again with them
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500, metavar="N", help="patches of each side (default 500)")
    parser.add_argument("--data", choices=DATA, action="append", help="default: all")
    parser.add_argument("--chain", choices=CHAINS, action="append", help="default: all")
    arguments = parser.parse_args()
    rows = []
    for data in arguments.data or DATA:
        with TemporaryDirectory() as folder:
            index = store(DATA[data](), Path(folder))
            for chain in arguments.chain or CHAINS:
                rows += [[data, *row] for row in rows_of_chain(chain, index, Path(folder), arguments.draws)]
    title = f"a patch of 96^3 voxels, mean of {arguments.draws} draws, one thread"
    table(title, ["data", "chain", "peer", "ours", "peer's", "ratio"], rows)


def rows_of_chain(chain: str, index: Index, folder: Path, draws: int) -> list[list[str]]:
    """Measure one chain on all sides, in turn; return a line for each peer."""
    names = PEERS_OF[chain]
    with peers(folder) as ask:
        sides: list[Side] = [ours(index, CHAINS[chain]), *(theirs(ask, name, chain) for name in names)]
        for side in sides:
            side(2)  # what is done once is not counted
        totals = np.zeros((len(sides), 2))
        for _ in range(TURNS):
            totals += [side(max(1, draws // TURNS)) for side in sides]
    own, *others = 1000 * totals[:, 1] / totals[:, 0]
    return [
        [chain, name, f"{own:.1f} ms", f"{other:.0f} ms", f"{other / own:.1f}"]
        for name, other in zip(names, others, strict=True)
    ]


def examples() -> Iterator[Scan]:
    """Yield the example cases."""
    folder = ROOT / "examples" / "head_neck"
    labels = read_labels(folder)
    assert labels is not None, "dataset.json names the classes"
    for case in find_cases(folder, labels):
        image, encoded = load_pair(case, labels)
        yield Scan(case.name, image, encoded.voxels, labels)


def made_volume() -> Iterator[Scan]:
    """Yield a body of noise in air, with three ellipsoids."""
    random = np.random.default_rng(0)
    hu = np.full(MADE_VOX, -1000, np.int16)
    hu[60:-60, 60:-60] = (20 * random.standard_normal((392, 304, 400), np.float32)).astype(np.int16)
    encoded = np.zeros(MADE_VOX, np.uint8)
    for label, (centre, radius) in enumerate((((180, 200, 200), 60), ((330, 180, 120), 25), ((300, 250, 300), 8)), 1):
        squares = [
            np.square((np.arange(size) - middle) / radius) for size, middle in zip(MADE_VOX, centre, strict=True)
        ]
        encoded[squares[0][:, None, None] + squares[1][:, None] + squares[2] <= 1] = label
    labels = Labels({f"organ {label}": (label,) for label in (1, 2, 3)})
    yield Scan("made", Volume(hu, Grid(MADE_VOX, np.eye(4))), encoded, labels)


DATA = {"examples": examples, "512x424x400": made_volume}


def store(scans: Iterator[Scan], folder: Path) -> Index:
    """Write scans as a store, and as arrays for the peers; return the store's index."""
    cases = []
    for scan in scans:
        grid = scan.image.grid
        write_case(
            *(folder / "store" / scan.name, scan.name, scan.image, scan.encoded),
            key="",
            source_grid=grid,
            crop=((0, 0, 0), grid.shape_vox),
            put_back={},
            sources={},
        )
        cases.append(PreparedCase.open(folder / "store" / scan.name))
        np.savez(folder / f"{scan.name}.npz", image=INTENSITY.apply(scan.image.voxels), labels=scan.encoded)
    return build_index(cases, Head("softmax", scan.labels), ("x", "y", "z"))


def ours(index: Index, augment: AugmentSection) -> Side:
    """Return what draws and makes the next patches from the store."""
    steps = count()

    def make(patches: int) -> tuple[int, float]:
        start = time.perf_counter()
        for _ in range(patches):
            drawn = draw(index, SAMPLE, 0, next(steps), 0)
            make_patch(index.cases[drawn.case], drawn, SAMPLE.patch_vox, augment, INTENSITY, index.labels)
        return patches, time.perf_counter() - start

    return make


def theirs(ask: Callable[..., tuple[int, float]], peer: str, chain: str) -> Side:
    """Return what lets a peer make its next patches."""
    return lambda patches: ask(peer, chain, patches)


@contextmanager
def peers(folder: Path) -> Iterator[Callable[..., tuple[int, float]]]:
    """Run `bench/augment_peers.py` in the peers' environment; yield what takes peer, chain and patches to a `Side`."""
    # As a module: a script would import bench/monai.py.
    command = [str(PEERS), "-W", "ignore", "-m", "bench.augment_peers", str(folder)]
    environment = os.environ | dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), os.devnull)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as process:
        assert process.stdin is not None and process.stdout is not None

        def ask(peer: str, chain: str, patches: int) -> tuple[int, float]:
            print(json.dumps([peer, chain, patches, TURN_S]), file=process.stdin, flush=True)
            answer = process.stdout.readline()
            if not answer:
                sys.exit(f"{PEERS}: {peer} did not answer; the reason stands above. Run bench/setup.sh, or set PEERS.")
            made, seconds = json.loads(answer)
            return made, seconds

        yield ask
        process.stdin.close()


if __name__ == "__main__":
    main()
