"""What the pictures of held-out cases take of the time of a validation, with the model of a training.

python scripts/train.py configs/head_neck.yaml work=runs/head_neck
python bench/overlay.py configs/head_neck.yaml work=runs/head_neck
"""

import sys
import time
from pathlib import Path

sys.path.pop(0)  # this folder, whose monai.py is not the library
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.watchdog import Stopwatch
from pipeline.config.load import load
from pipeline.device import choose
from pipeline.log import table
from pipeline.model import Model
from pipeline.stages.torch_setup import set_up_torch
from pipeline.stages.train import split
from pipeline.training import validate
from pipeline.work import WorkFolder

VALIDATIONS = 2


def main() -> None:
    """Print the table for the config given, as for `scripts/train.py`."""
    config = load(sys.argv[1:])
    device = choose(config.train.device)
    set_up_torch(config.train, 0, device)
    _, cases = split(config)
    model = Model.load(WorkFolder(config.work).train(config.train.fold) / "model", device)
    watch, draw = Stopwatch(), validate.overlay_png
    validate.overlay_png = watch.timed(draw)
    rows = []
    for _ in range(VALIDATIONS):
        watch.seconds, began = 0.0, time.perf_counter()
        found = validate.validate(model.net, cases.validation, model.facts, config.infer, device, lambda: None)
        seconds = time.perf_counter() - began
        shares = f"{watch.seconds:.3f}", f"{watch.seconds / seconds:.2%}"
        sizes = ", ".join(str(len(png) // 1000) for png in found.overlays.values())
        rows.append((len(cases.validation), f"{seconds:.2f}", *shares, sizes))
    table(f"validations on {device}", ("cases", "s", "s for pictures", "share", "kB of each"), rows)


if __name__ == "__main__":
    main()
