"""Networks, their options, and losses compared on the examples: the same steps' worth of time for each, several seeds.

python bench/compare.py networks
python bench/compare.py options --minutes 3 --seeds 3
python bench/compare.py losses --minutes 3 --seeds 3
python bench/compare.py networks --only UNet3d TransFuse3d --device cuda --minutes 10

Each variant is `configs/head_neck.yaml` with the keys that its table names, trained by the stage scripts. Its seconds a
step are measured first, one variant after the other, so do that on a quiet machine (`--time` does nothing else); the
minutes are then a number of steps, and what else the machine does later changes no result. Scores are of the test
cases, which no choice is made by: mean over seeds, and the standard deviation over seeds behind it. Everything is kept
under --work, and the same command goes on.
"""

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

sys.path.pop(0)  # this folder, whose monai.py is not the library
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.spread import with_spread
from pipeline.files import read_json, write_json
from pipeline.log import table

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "head_neck.yaml"
TIMED_STEPS = 30  # of which the first ten set up kernels
WIDTHS = "[16, 32, 64, 96]"
MONAI_UNET = f"{{channels: {WIDTHS}, strides: [2, 2, 2], num_res_units: 2}}"
DYNUNET = (
    f"{{filters: {WIDTHS}, strides: [1, 2, 2, 2], kernel_size: [3, 3, 3, 3], upsample_kernel_size: [2, 2, 2],"
    " deep_supervision: true, deep_supr_num: 1}"
)
OWN = f"channels: {WIDTHS}, decoder_convolutions: 1"

DICE_CE = {"loss.name": "dice_ce"}
QUICK = {"infer.mirror": "[]", "infer.overlap": "0.25"}  # prediction would take half of the time of a short training
TOPK = QUICK | {"loss.name": "dice_topk"}  # learns the small organs early: with dice_ce that comes about when three
# minutes are over, and chance decides between two options

Overrides = Mapping[str, str]
TABLES: dict[str, dict[str, Overrides]] = {
    "networks": {
        "UNet3d": DICE_CE,
        "UCTransNet3d": DICE_CE | {"net.name": "UCTransNet3d", "net.options": "{}", "train.lr": "2e-3"},
        "TransFuse3d": DICE_CE | {
            "net.name": "TransFuse3d", "net.options": "{stem_stride: 2}", "train.lr": "2e-3",
            "net.head_weights": "[0.5, 0.3, 0.2]",
        },
        "monai.UNet": DICE_CE | {"net.name": "monai.UNet", "net.options": MONAI_UNET},
        "monai.DynUNet": DICE_CE | {"net.name": "monai.DynUNet", "net.options": DYNUNET},
        "monai.SegResNet": DICE_CE | {"net.name": "monai.SegResNet", "net.options": "{init_filters: 16}"},
    },
    "options": {
        "nearest + convolution": TOPK,
        "linear + convolution": TOPK | {"net.options": f"{{{OWN}, upsampling: linear}}"},
        "transposed": TOPK | {"net.options": f"{{{OWN}, upsampling: transposed}}"},
        "nearest, attention gates": TOPK | {"net.options": f"{{{OWN}, attention_gates: true}}"},
    },
    "losses": {
        "dice_ce": QUICK | DICE_CE,
        "ce": QUICK | {"loss.name": "ce"},
        "dice_topk": TOPK,
        "tversky": QUICK | {"loss.name": "tversky"},
        "generalised_dice": QUICK | {"loss.name": "generalised_dice"},
    },
}  # fmt: skip


def main() -> None:
    """Time, train and score what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--minutes", type=float, default=5, help="of training, each (default 5)")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each variant (default 2)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants, of those in the table")
    parser.add_argument("--device", default="cpu", help="train.device (default cpu)")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "compare", metavar="FOLDER")
    parser.add_argument("--time", action="store_true", help="only measure the seconds of a step")
    arguments = parser.parse_args()
    variants = {name: TABLES[arguments.table][name] for name in arguments.only or TABLES[arguments.table]}
    runs = {name: folder_name(keys) for name, keys in variants.items()}
    common = {
        "data.source": str(ROOT / "examples" / "head_neck"),
        "data.store": str(arguments.work / "store"),
        "train.device": arguments.device,
    }
    stage("prepare", common | {"work": str(arguments.work)})
    seconds = {name: seconds_a_step(arguments.work, runs[name], keys | common) for name, keys in variants.items()}
    if arguments.time:
        table("seconds a step", ["variant", "seconds"], [[name, f"{each:.3f}"] for name, each in seconds.items()])
        return
    for seed in range(arguments.seeds):  # all variants of a seed first: an interruption leaves a fair table
        for name, keys in variants.items():
            steps = round(arguments.minutes * 60 / seconds[name])
            train_and_score(folder_of(arguments.work, runs[name], steps, seed), keys | common, steps, seed)
    show(arguments, runs, seconds)


def folder_name(keys: Overrides) -> str:
    """Return what the folder of a variant is called, the same for the same keys: it is trained once for all tables."""
    first = next(name for variants in TABLES.values() for name, each in variants.items() if each == keys)
    return first.replace(" ", "-")


def seconds_a_step(work: Path, name: str, keys: Overrides) -> float:
    """Return the median seconds of a step of a short run; what was measured once, in `seconds.json`, is kept."""
    kept = work / "seconds.json"
    known: dict[str, float] = read_json(kept) if kept.exists() else {}
    if name not in known:
        folder = work / "timing" / name
        length = {"train.steps": str(TIMED_STEPS), "train.log_every_steps": "1", "train.fold": "all"}
        stage("train", keys | length | {"work": str(folder), "train.restart": "true"})
        with (folder / "train" / "all" / "train.csv").open(newline="") as file:
            speeds = [float(row["patches_per_second"]) for row in csv.DictReader(file) if row["patches_per_second"]]
        batch = read_json(folder / "train" / "all" / "run.json")["keys"]["sample.batch"]
        known[name] = batch / median(speeds[10:])
        write_json(kept, known)
    return known[name]


def folder_of(work: Path, run: str, steps: int, seed: int) -> Path:
    """Return the work folder of one run."""
    return work / run / f"{steps}-steps-seed-{seed}"


def train_and_score(folder: Path, keys: Overrides, steps: int, seed: int) -> None:
    """Train, predict the test cases and score them, each where it was not done."""
    if (folder / "evaluate" / "summary.json").exists():
        return
    length = {"train.steps": str(steps), "train.validate_every_steps": str(-(-steps // 2)), "seed": str(seed)}
    for name in ("train", "infer", "evaluate"):
        stage(name, keys | length | {"work": str(folder)})


def stage(name: str, keys: Overrides) -> None:
    """Run a stage script; what it says goes to its log."""
    words = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), str(CONFIG), *(f"{k}={v}" for k, v in keys.items())]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_WAIT_POLICY": "passive"})
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr}")


def show(arguments: argparse.Namespace, runs: Mapping[str, str], seconds: Mapping[str, float]) -> None:
    """Print Dice by class and over all, of every variant."""
    rows = []
    classes: list[str] = []
    for name, run in runs.items():
        steps = round(arguments.minutes * 60 / seconds[name])
        folders = [folder_of(arguments.work, run, steps, seed) for seed in range(arguments.seeds)]
        found = [read_json(folder / "evaluate" / "summary.json") for folder in folders]
        classes = list(found[0]["labels"])
        scores = [[each["labels"][label]["dice"]["mean"] for each in found] for label in classes]
        scores.append([each["mean"]["dice"] for each in found])
        rows.append([name, f"{seconds[name]:.3f}", str(steps), *map(with_spread, scores)])
    heading = ["variant", "s a step", "steps", *classes, "mean"]
    table(f"Dice of 4 test cases, {arguments.seeds} seeds, {arguments.minutes:g} minutes each", heading, rows)


if __name__ == "__main__":
    main()
