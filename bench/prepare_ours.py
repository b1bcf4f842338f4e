"""Our `prepare` of a data set, measured; run by `bench/prepare.py` in a process of its own.

python -m bench.prepare_ours DATA OUT 3 3 3             the figures as JSON
python -m bench.prepare_ours DATA OUT 3 3 3 --profile   a table of where the stage spends its time
"""

import argparse
import cProfile
import json
import pstats
import time
from pathlib import Path

from bench.status import status_bytes
from pipeline import __version__
from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.dataset.checks import load_pair
from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.log import log, table
from pipeline.stages.prepare import run
from pipeline.volume.intensity import AIR_HU
from pipeline.volume.resample import resample_image, resample_labels

LEAST_SHARE = 0.01  # of the stage's time that a function needs for a line of the profile


def resampling_seconds(config: Config) -> dict[str, float]:
    """Return what resampling takes alone, of whole CTs as nnU-Net's is, the search for lost objects included."""
    assert config.data.source is not None
    labels = read_labels(config.data.source)
    assert labels is not None, "dataset.json names the classes"
    seconds = {"image": 0.0, "label": 0.0}
    for case in find_cases(config.data.source, labels):
        image, label = load_pair(case, labels)
        target = image.grid.at_spacing(config.prepare.spacing_mm)
        start = time.perf_counter()
        resample_image(image.voxels, image.grid, target, AIR_HU)
        made = time.perf_counter()
        resample_labels(label.voxels, image.grid, target)
        seconds["image"] += made - start
        seconds["label"] += time.perf_counter() - made
    return seconds


def measure(config: Config) -> dict:
    """Run the stage, then the resampling alone, so that the stage's peak memory is its own."""
    imported = status_bytes("VmRSS")
    start = time.perf_counter()
    outcome = run(config)
    whole = time.perf_counter() - start
    assert outcome.done and not outcome.failed, outcome
    memory = {"peak": status_bytes("VmHWM"), "imported": imported}
    seconds = {"whole": whole, **resampling_seconds(config)}
    return {"name": f"ours {__version__}", "seconds": seconds, "memory": memory}


def profile(config: Config) -> None:
    """Print the functions of the project that take at least a hundredth of the stage, with what they call."""
    profiler = cProfile.Profile()
    profiler.runcall(run, config)
    stats = pstats.Stats(profiler)
    rows = []
    for (file, _, function), (_, calls, own, all_in_all, _) in stats.stats.items():  # type: ignore[attr-defined]
        if "/pipeline/" in file and all_in_all >= LEAST_SHARE * stats.total_tt:  # type: ignore[attr-defined]
            module = file.rpartition("/pipeline/")[2]
            rows.append((all_in_all, [f"{module}: {function}", calls, f"{all_in_all:.3f}", f"{own:.3f}"]))
    table("where prepare spends its time", ["function", "calls", "s", "s without what it calls"],
          [row for _, row in sorted(rows, reverse=True, key=lambda row: row[0])])  # fmt: skip


def main() -> None:
    """Measure the data set given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("spacing_mm", type=float, nargs=3)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    log.setLevel("WARNING")
    config = load([f"work={given.out}", f"data.source={given.data}", f"prepare.spacing_mm={given.spacing_mm}",
                   "prepare.workers=0"])  # fmt: skip
    if given.profile:
        profile(config)
    else:
        print(json.dumps(measure(config)))


if __name__ == "__main__":
    main()
