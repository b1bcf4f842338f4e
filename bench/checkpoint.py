"""What gradient checkpointing saves and costs: peak memory and seconds of a training step, by network and mode.

python bench/checkpoint.py UNet3d monai.DynUNet --cube 128
python bench/checkpoint.py --cube 64 --batch 2 --threads 2

Memory is the most that network, optimiser, loss and batch take on top of the program. Each mode has a process of its
own, as deep changes how a process gets its memory; the quickest of some steps counts. Ratios are to none.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, whose monai.py is not the library
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import torch

from pipeline.config.loss import LossSection
from pipeline.config.net import NetSection
from pipeline.config.train import TrainSection
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.log import table
from pipeline.planning.cost import Cost, Trial
from pipeline.planning.measure import step_cost
from pipeline.planning.recompute import MODES
from pipeline.processes import Failure, each

CPU = torch.device("cpu")
CHANNELS = (16, 32, 64, 96, 96)
NETWORKS: dict[str, dict[str, Any]] = {
    "UNet3d": {"channels": CHANNELS[:4]},
    "monai.DynUNet": {"filters": CHANNELS},
    "monai.UNet": {},
    "monai.SegResNet": {"init_filters": 16},
    "UCTransNet3d": {},
    "TransFuse3d": {},
}
HEAD = Head("softmax", Labels({f"organ {organ}": (organ,) for organ in range(1, 5)}))
LOSS, TRAIN = LossSection(name="dice_ce"), TrainSection(amp="off")
WEIGHTS = {"TransFuse3d": (0.5, 0.3, 0.2)}
MIB = 2**20


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--cube", type=int, default=64, metavar="N", help="voxels along each side (default 64)")
    parser.add_argument("--batch", type=int, default=2, metavar="N", help="patches of a batch (default 2)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of a step (default 1)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # of the processes that measure memory
    set_up(arguments.threads)
    lines = [
        line
        for name in arguments.networks or NETWORKS
        for line in rows(name, arguments.cube, arguments.batch, arguments.threads)
    ]
    title = f"{arguments.batch} x {arguments.cube}-cube, threads: {arguments.threads}; torch {torch.__version__}"
    table(title, ["network", "checkpoint", "memory", "ratio", "step", "ratio"], lines)


def set_up(threads: int) -> None:
    """Set torch up as training does on a CPU."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def rows(name: str, cube_vox: int, batch: int, threads: int) -> Iterator[list[str]]:
    """Yield a line for each mode of a network."""
    trials = [trial_of(name, mode, cube_vox, batch) for mode in MODES]
    costs = [memory_of(trial, threads) for trial in trials]
    least = costs[0]
    for mode, cost in zip(MODES, costs, strict=True):
        if not isinstance(cost, Cost) or not isinstance(least, Cost):
            yield [name, mode, "cannot be had" if isinstance(cost, Failure) else "does not fit", "", "", ""]
            continue
        memory = [f"{cost.memory_bytes / MIB:.0f} MiB", f"{cost.memory_bytes / least.memory_bytes:.2f}"]
        yield [name, mode, *memory, f"{cost.seconds:.2f} s", f"{cost.seconds / least.seconds:.2f}"]


def trial_of(name: str, mode: str, cube_vox: int, batch: int) -> Trial:
    """Return a step of a network in a mode."""
    net = NetSection.model_validate(
        {"name": name, "options": NETWORKS[name], "checkpoint": mode, "head_weights": WEIGHTS.get(name, ())}
    )
    return Trial(net, (cube_vox, cube_vox, cube_vox), batch)


def memory_of(trial: Trial, threads: int) -> Cost | Failure | None:
    """Return what a step takes in a process of its own, None where it does not fit, and why it cannot be had."""
    ((_, result),) = each(partial(cost_in_this_process, threads=threads), [trial], workers=1)
    return None if isinstance(result, Failure) and result.died else result


def cost_in_this_process(trial: Trial, threads: int) -> Cost | None:
    """Return what a step takes."""
    set_up(threads)
    return step_cost(trial, HEAD, LOSS, TRAIN, CPU)


if __name__ == "__main__":
    main()
