"""The stream of patches: what training waits for it, and what memory it takes.

python bench/stream.py                          both, on configs/head_neck.yaml
python bench/stream.py waiting --steps 60
python bench/stream.py memory --draws 20000
"""

import argparse
import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.head import Head
from pipeline.log import table
from pipeline.sampling.batch import make_batch
from pipeline.sampling.index import build_index
from pipeline.stages import prepare, train
from pipeline.stages.data import training_cases
from pipeline.store.layout import case_folder
from pipeline.store.reader import PreparedCase
from pipeline.volume.intensity import Intensity

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
WARM_STEPS = 10
LOOKS = 5  # at the memory of a process


def configured(work: Path, *overrides: str) -> Config:
    """Return the demo's config in a work folder of its own."""
    return load([str(ROOT / "configs/head_neck.yaml"), f"data.source={ROOT / 'examples/head_neck'}", *overrides,
                 f"work={work}"])  # fmt: skip


# Waiting


def waiting(work: Path, steps: int) -> None:
    """Train with no loader process and with two, and print which share of the time a step waited for its batch."""
    rows = []
    for workers in (0, 2):
        folder = work / f"waiting{workers}"
        config = configured(
            folder, f"data.store={work / 'store'}", f"train.steps={steps}", f"sample.workers={workers}",
            "train.log_every_steps=1", "train.fold=all", f"train.validate_every_steps={steps}",
        )  # fmt: skip
        train.run(config)
        with (folder / "train" / "all" / "train.csv").open(newline="") as file:
            shown = [row for row in csv.DictReader(file) if row["loss"]]
        step_s = [config.sample.batch / float(row["patches_per_second"]) for row in shown]
        wait_s = [float(row["wait_share"]) * spent for row, spent in zip(shown, step_s, strict=True)]
        settled = slice(WARM_STEPS, None)
        share = sum(wait_s[settled]) / sum(step_s[settled])
        rows.append([workers, f"{fmean(step_s[settled]):.3f}", f"{1000 * fmean(wait_s[settled]):.1f}", f"{share:.1%}",
                     f"{wait_s[0]:.2f}"])  # fmt: skip
    title = f"training {steps} steps of {config.sample.batch} x {config.sample.patch_vox}, the first {WARM_STEPS} apart"
    table(title, ["workers", "s a step", "ms waiting", "share", "s at the start"], rows)


# Memory


def memory(work: Path, draws: int) -> None:
    """Print the anonymous memory of a process that makes patches, from the demo's cases and from twenty times as many.

    Files that are mapped, as the store's are, are no part of it: the system takes their pages back when it needs them.
    """
    rows = []
    for copies in (1, 20):
        command = [sys.executable, __file__, "memory", "--draws", str(draws), "--copies", str(copies),
                   "--work", str(work)]  # fmt: skip
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        cases, *anonymous = printed.split()
        rows.append([cases, *(f"{int(number) / MIB:.1f}" for number in anonymous)])
    counted = [f"{draws * part // LOOKS}" for part in range(1, LOOKS + 1)]
    table("anonymous memory in MiB after so many draws", ["cases", "index", *counted], rows)


def draw_many(work: Path, draws: int, copies: int) -> None:
    """Make patches of `copies` times the cases of a store, and print the number of cases, then bytes now and then."""
    config = configured(work)
    labels, _, prepared = training_cases(config)
    linked = []
    for copy in range(copies):
        for case in prepared:
            link = work / "copies" / f"{case.name}-{copy}"
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(case_folder(work / "store", case.name))
            linked.append(replace(PreparedCase.open(link), name=link.name))
    index = build_index(linked, Head(config.head.kind, labels), config.augment.mirror)
    intensity = Intensity(config.intensity.window_hu)
    figures = [len(linked), anonymous_bytes()]
    steps = draws // config.sample.batch
    for part in range(LOOKS):
        for step in range(steps * part // LOOKS, steps * (part + 1) // LOOKS):
            make_batch(index, config.sample, config.augment, intensity, config.seed, step)
        figures.append(anonymous_bytes())
    print(*figures)


def anonymous_bytes() -> int:
    """Return how much memory this process holds that is no file."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("Linux tells no anonymous memory here")


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("waiting", "memory"))
    parser.add_argument("--steps", type=int, default=60, help="of each training (default 60)")
    parser.add_argument("--draws", type=int, default=20_000, help="patches made (default 20,000)")
    parser.add_argument("--copies", type=int, help=argparse.SUPPRESS)  # how the memory part calls itself
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.copies:
        draw_many(given.work, given.draws, given.copies)
        return
    with TemporaryDirectory() as folder:
        work = Path(folder)
        prepare.run(configured(work))
        if given.part in (None, "waiting"):
            waiting(work, given.steps)
        if given.part in (None, "memory"):
            memory(work, given.draws)


if __name__ == "__main__":
    main()
