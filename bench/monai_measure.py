"""How the two sides of a comparison are measured; see `bench/monai.py`."""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bench.status import status_bytes

Side = Callable[[], object]
Sides = tuple[Side, Side]  # ours, MONAI's
Row = list[str]

MIB = 2**20


def row(what: str, ours: float, theirs: float, unit: str) -> Row:
    """Return a line of the table; a ratio below 1 says so in words."""
    ratio = theirs / ours
    ratio_text = f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"
    verdict = "" if float(ratio_text) >= 1 else " (against us)"
    return [what, f"{ours:.3g} {unit}", f"{theirs:.3g} {unit}", ratio_text + verdict]


def seconds_row(what: str, sides: Sides, repeats: int = 3, each: int = 1) -> Row:
    """Run both sides in turn and return the line of the least seconds of each. each: how many one run makes."""
    least = [float("inf")] * 2
    for _ in range(repeats):
        for number, side in enumerate(sides):
            start = time.perf_counter()
            side()
            least[number] = min(least[number], (time.perf_counter() - start) / each)
    if max(least) < 1:
        return row(what, *(seconds * 1000 for seconds in least), "ms")
    return row(what, *least, "s")


def peak_row(what: str, make: Callable[..., Sides], *arguments: Any) -> Row:
    """Return the line of the memory that each side takes at most beyond its inputs, in a process of its own.

    make: a function of a module; called with `arguments`, which JSON can hold, it returns the sides.
    """
    name = f"{make.__module__}:{make.__qualname__}"
    peaks = []
    for number in (0, 1):
        command = [sys.executable, "-m", "bench.monai_measure", "peak", name, str(number), json.dumps(arguments)]
        peaks.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout))
    return row(what, *(peak / MIB for peak in peaks), "MiB")


def peak_of(side: Side) -> int:
    """Run a side, and return by how many bytes the resident memory rose above what it was."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here: making the inputs may have had a higher
    before = status_bytes("VmRSS")
    side()
    return status_bytes("VmHWM") - before


def find(name: str) -> Callable[..., Any]:
    """Return the function that "module:function" names."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def main() -> None:
    """Print as JSON the lines of a part, or the peak of one side."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    task, name, *rest = sys.argv[1:]
    if task == "rows":
        print(json.dumps(find(name)()))
    else:
        side, arguments = rest
        print(json.dumps(peak_of(find(name)(*json.loads(arguments))[int(side)])))


if __name__ == "__main__":
    main()
