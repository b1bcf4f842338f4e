"""Each MONAI part that the project replaces against ours, in one run on the CPU; some minutes on two cores.

python bench/monai.py
python bench/monai.py --only resampling --threads 2

A ratio is MONAI's figure divided by ours: above 1 ours is quicker or smaller. Both sides take turns, and the least of
several runs counts. MONAI gets what helps it: its volumes in memory, its crops' indices found beforehand, its
resampling in float32.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline.log import table

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "patches": "bench.monai_patches",
    "resampling": "bench.monai_volumes",
    "inference": "bench.monai_volumes",
    "metrics": "bench.monai_volumes",
    "losses": "bench.monai_training",
    "checkpointing": "bench.monai_training",
}
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def measure(part: str, threads: int) -> list[list[str]]:
    """Return the lines of a part, which runs in a process of its own.

    As a module (-m): for a script of this folder, `import monai` would find this file and not the library.
    """
    command = [sys.executable, "-m", "bench.monai_measure", "rows", f"{PARTS[part]}:{part}"]
    environment = os.environ | dict.fromkeys(THREAD_SETTINGS, str(threads))
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Print one table of the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, metavar="NAME", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of each side (default 1)")
    arguments = parser.parse_args()
    start = time.perf_counter()
    rows = [row for part in PARTS if arguments.only in (None, part) for row in measure(part, arguments.threads)]
    took = f"{time.perf_counter() - start:.0f} s in all"
    versions = f"MONAI {version('monai')}, torch {version('torch')}"
    table(f"{versions}, threads: {arguments.threads}, {took}", ["part", "ours", "MONAI", "ratio"], rows)


if __name__ == "__main__":
    main()
