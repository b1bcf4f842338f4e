"""Time and memory of every loss and its gradient against MONAI's DiceCELoss, in one run on the CPU.

python bench/losses.py --cube 64
python bench/losses.py --cube 128 --threads 2

A ratio is MONAI's figure divided by ours: above 1 ours is quicker or smaller. Both sides take turns, and the least of
three runs counts. Memory is what comes on top of logits and labels at most, the gradient itself included, each side in
a process of its own.
"""

import argparse
import os
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.pop(0)  # this folder, whose monai.py is not the library
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import torch

from bench.losses_sides import rows
from pipeline.log import table


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=14, metavar="N", help="background and classes (default 14)")
    parser.add_argument("--cube", type=int, default=128, metavar="N", help="voxels along each side (default 128)")
    parser.add_argument("--samples", type=int, default=2, metavar="N", help="samples of a batch (default 2)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of each side (default 1)")
    arguments = parser.parse_args()
    os.chdir(sys.path[0])  # where the processes that measure memory find their modules
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # theirs
    torch.set_num_threads(arguments.threads)
    title = f"{arguments.samples} x {arguments.cube}-cube, {arguments.channels} channels, threads: {arguments.threads}"
    versions = f"MONAI {version('monai')}, torch {version('torch')}"
    lines = rows(arguments.channels, arguments.cube, arguments.samples)
    table(f"{title}; {versions}", ["loss and gradient", "ours", "DiceCELoss", "ratio"], lines)


if __name__ == "__main__":
    main()
