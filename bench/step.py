"""A training step against nnU-Net's: the same network, patch, batch and threads, each side with its own loading.

bash bench/setup.sh
python bench/step.py --rounds 3
python bench/step.py DATA --device cuda --compile --spacing 1.5 --patch 128 --features 32,64,128,256,320 --steps 300

DATA holds images/, labels/ and dataset.json, whose "test" names cases that are left out; default: the examples. The
sides take turns, each in a process of its own. nnU-Net runs its trainer with its data loading and augmentation as
shipped; on a GPU that is compiled and in float16, on a CPU it knows float32 only. On both, threads that wait do not
spin (OMP_WAIT_POLICY=passive), as `train` has it. Ours is the stage `train`, with augmentation and what is recorded as
shipped, nothing held out, and nnU-Net's loss and optimiser, with MONAI's DynUNet and with UNet3d in nnU-Net's shape:
strided 3x3x3 convolutions, two a stage, instance norm with weights, leaky ReLU, transposed convolutions, outputs of all
decoder stages but the coarsest, which nnU-Net computes and gives weight 0. What differs: nnU-Net's convolutions have a
bias in front of the norm, which takes it away again.

ms: median over the steps behind the warm-up, of the rounds the median. waiting: share of wall time in which the step
waits for its batch. other: share of everything but forward, backward and optimiser; on a GPU, which is not waited for
between these, of everything outside the step. first step: seconds from the start of the process to its end. ratio:
nnU-Net's ms over this side's of the same round, of the rounds the median.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

sys.path.pop(0)  # this folder, whose monai.py is not the library
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.interpreter import PEERS
from pipeline.log import table

ROOT = Path(__file__).resolve().parents[1]
NNUNET = "nnU-Net"
IN_STEP = ("forward", "backward", "optimiser")
HEADINGS = ("side", "parameters", "ms", "waiting", "other", "first step", "ratio")


def main() -> None:
    """Run both sides in turn and print one table."""
    arguments = parsed()
    if not PEERS.exists():
        sys.exit(f"{PEERS}: not there; make it with `bash bench/setup.sh`, or set PEERS=/path/to/python.")
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        call([*theirs(arguments, work), "--steps", "0"], arguments, work)
        call(["scripts/prepare.py", *data_keys(arguments, work)], arguments, work)
        sides = {name: keys for name, keys in variants(arguments).items() if name in (arguments.only or [name])}
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (NNUNET, *sides)}
        for number in range(arguments.rounds):
            for name, done in runs.items():
                done.append(run(name, sides.get(name, ()), number, arguments, work))
                print(f"{name}: {1000 * median(done[-1]['step_s']):.0f} ms, load {os.getloadavg()[0]:.1f}")
    title = f"{arguments.batch} x {arguments.patch}-cube, {arguments.features} channels, {arguments.threads} threads"
    table(f"{title}, {arguments.device}", HEADINGS, [row(name, runs, arguments) for name in runs])
    save_s = [1000 * run["save_s"] for name in sides for run in runs[name]]
    print(f"saving the state of ours: {median(save_s):.0f} ms, each 5 minutes")


def parsed() -> argparse.Namespace:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=ROOT / "examples" / "head_neck", metavar="DATA")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--steps", type=int, default=150, help="of each turn (default 150)")
    parser.add_argument("--warmup", type=int, default=50, help="of them, that do not count (default 50)")
    parser.add_argument("--spacing", type=float, default=4, metavar="MM", help="of all axes (default 4)")
    parser.add_argument("--patch", type=int, default=48, metavar="VOXELS", help="of all axes (default 48)")
    parser.add_argument("--batch", type=int, default=2, help="patches a step (default 2)")
    parser.add_argument("--features", default="16,32,64,96", help="channels of each stage (default 16,32,64,96)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side (default: all cores)")
    parser.add_argument(
        "--workers", type=int, default=min(12, os.cpu_count() or 1), help="nnU-Net's (default: its own)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="ours too")
    parser.add_argument("--only", nargs="+", metavar="SIDE", help="of ours, such as 'DynUNet, float32'")
    return parser.parse_args()


def variants(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Return our sides, each with the keys of its own."""
    features = [int(word) for word in arguments.features.split(",")]
    strides = [1] + [2] * (len(features) - 1)
    coarser = len(features) - 3  # outputs that are trained beside the prediction
    dynunet = {
        "filters": features, "strides": strides, "trans_bias": True, "deep_supervision": coarser > 0,
        "deep_supr_num": max(1, coarser),
    }  # fmt: skip
    unet3d = {"channels": features, "upsampling": "transposed", "deep_supervision": max(0, coarser)}
    nets = {
        "DynUNet": ["net.name=monai.DynUNet", f"net.options={json.dumps(dynunet)}"],
        "UNet3d": ["net.name=UNet3d", f"net.options={json.dumps(unet3d)}"],
    }
    if arguments.device == "cuda":
        return {f"{name}, float16": [*keys, "train.amp=fp16"] for name, keys in nets.items()}
    sides = {f"{name}, float32": [*keys, "train.amp=off"] for name, keys in nets.items()}
    if "avx512_bf16" in Path("/proc/cpuinfo").read_text():
        sides |= {f"{name}, bfloat16": [*keys, "train.amp=bf16"] for name, keys in nets.items()}
    return sides


def data_keys(arguments: argparse.Namespace, work: Path) -> list[str]:
    """Return the keys that say what is prepared."""
    spacing = [arguments.spacing] * 3
    return [f"work={work / 'prepared'}", f"data.source={arguments.data.resolve()}", f"prepare.spacing_mm={spacing}"]


def theirs(arguments: argparse.Namespace, work: Path) -> list[str]:
    """Return the words of nnU-Net's side."""
    given = {name: getattr(arguments, name) for name in ("spacing", "patch", "batch", "features", "threads")}
    given |= {name: getattr(arguments, name) for name in ("workers", "device", "warmup")}
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["-m", "bench.step_nnunet", str(arguments.data.resolve()), str(work / "nnunet"), result(work), *options]


def ours(keys: Sequence[str], number: int, arguments: argparse.Namespace, work: Path) -> list[str]:
    """Return the words of one of our sides."""
    return [
        "-m", "bench.step_ours", result(work), str(arguments.warmup), *data_keys(arguments, work)[1:], *keys,
        f"work={work / 'ours'}", f"data.store={work / 'prepared' / 'store'}", "train.restart=true", "train.fold=all",
        f"sample.patch_vox={[arguments.patch] * 3}", f"sample.batch={arguments.batch}", f"seed={number}",
        f"train.steps={arguments.steps}", f"train.device={arguments.device}", "train.optimiser=sgd", "train.lr=1e-2",
        f"train.compile={str(arguments.compile).lower()}", "loss.name=dice_ce",
    ]  # fmt: skip


def result(work: Path) -> str:
    """Return where a side writes its figures."""
    return str(work / "result.json")


def run(name: str, keys: Sequence[str], number: int, arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Train on one side and return its figures."""
    command = theirs(arguments, work) if name == NNUNET else ours(keys, number, arguments, work)
    began = time.monotonic()  # the same clock in all processes
    call([*command, "--steps", str(arguments.steps)] if name == NNUNET else command, arguments, work)
    found = json.loads(Path(result(work)).read_text())
    return found | {"first_step_s": found["first_step_ended"] - began}


def call(words: Sequence[str], arguments: argparse.Namespace, work: Path) -> None:
    """Run Python with these words, nnU-Net's by the peers' interpreter, and what it says in a file."""
    python = str(PEERS) if "bench.step_nnunet" in words else sys.executable
    log = work / "log.txt"
    with log.open("w") as file:
        environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "OMP_WAIT_POLICY": "passive"}
        done = subprocess.run([python, *words], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{' '.join([python, *words])} ended with {done.returncode}:\n{log.read_text()[-4000:]}")


def row(name: str, runs: Mapping[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> list[str]:
    """Return the line of one side."""
    own = runs[name]
    ms = [1000 * median(run["step_s"]) for run in own]
    their_ms = [1000 * median(run["step_s"]) for run in runs[NNUNET]]
    inside = ("step",) if arguments.device == "cuda" else IN_STEP
    others = [1 - sum(run["share"][part] for part in inside) for run in own] if name != NNUNET else []
    return [
        name, f"{own[0]['parameters']:,}", f"{median(ms):.0f}",
        f"{median(run['share']['waiting'] for run in own):.1%}", f"{median(others):.1%}" if others else "",
        f"{median(run['first_step_s'] for run in own):.1f} s",
        f"{median(their / mine for their, mine in zip(their_ms, ms, strict=True)):.2f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
