"""Time and peak memory of each stage, a case or a step, from the records of a finished work folder.

python bench/stages.py runs/demo
"""

import csv
import sys
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline.files import read_json
from pipeline.log import table

GIB = 2**30


def row_of_units(stage: str, records: Path) -> list[object]:
    """Return the line of a stage whose units have records."""
    found = [read_json(path) for path in sorted(records.glob("*.json")) if not path.name.endswith(".error.json")]
    seconds = [record["seconds"] for record in found]
    peak = max(record["peak_memory_bytes"] for record in found) / GIB
    return [stage, f"{len(found)} cases", f"{mean(seconds):.2f}", f"{max(seconds):.2f}", f"{peak:.2f}"]


def row_of_training(path: Path) -> list[object]:
    """Return the line of a run, from its train.csv."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    state = sorted((path.parent / "state").glob("step-*"))[-1]
    progress = read_json(state / "state.json")["facts"]["progress"]
    each = progress["seconds"] / progress["step"]
    peak = max(float(row["memory_gib"]) for row in rows)
    return ["train", f"{progress['step']} steps", f"{each:.3f}", "", f"{peak:.2f}"]


def main() -> None:
    """Print the table of the work folder given."""
    work = Path(sys.argv[1])
    rows = [row_of_units("prepare", work / "store" / "records")]
    rows += [row_of_training(path) for path in sorted((work / "train").glob("*/train.csv"))]
    rows += [row_of_units(stage, work / stage / "records") for stage in ("predict", "evaluate")]
    table(str(work), ["stage", "units", "mean s", "largest s", "peak GiB"], rows)


if __name__ == "__main__":
    main()
