"""What recording a run's health and looking at it takes of the time of training, in one process on the CPU.

python bench/watchdog.py
python bench/watchdog.py --steps 100 --large-steps 20 --threads 2

Every function that measures, writes down or judges is timed within steps of the demo's network on the same made batch,
so that no time is spent on data. What was measured before there was a watchdog (the predicted shares) counts, too.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, whose monai.py is not the library
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import torch

from bench.losses_sides import made_labels
from pipeline.config.load import load
from pipeline.head import Head
from pipeline.log import table
from pipeline.losses.build import build as build_loss
from pipeline.nets.registry import build
from pipeline.sampling.batch import Batch
from pipeline.sampling.draw import Draw
from pipeline.stages.run_facts import run_facts
from pipeline.training.change import WeightChange
from pipeline.training.ledger import Ledger
from pipeline.training.loop import Loop
from pipeline.training.optimise import make_optimiser
from pipeline.training.recorder import Recorder
from pipeline.training.step import Step

ROOT = Path(__file__).resolve().parents[1]
TIMED = (
    (Recorder, "_overlap"), (Recorder, "_vitals"), (Recorder, "_record"), (Ledger, "add"), (WeightChange, "__init__"),
    (WeightChange, "share"),
)  # fmt: skip
CPU = torch.device("cpu")


class Stopwatch:
    """Adds up the seconds within some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, whose calls are timed."""

        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - began

        return call

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time what is TIMED meanwhile."""
        before = [(owner, name, getattr(owner, name)) for owner, name in TIMED]
        try:
            for owner, name, function in before:
                setattr(owner, name, self.timed(function))
            yield
        finally:
            for owner, name, function in before:
                setattr(owner, name, function)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="of 4 x 32-cube (default 100)")
    parser.add_argument("--large-steps", type=int, default=20, metavar="N", help="of 2 x 96-cube (default 20)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of torch (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [measured(4, 32, arguments.steps), measured(2, 96, arguments.large_steps)]
    columns = ["steps", "of", "s a step", "health, ms a step", "share"]
    table(f"UNet3d of configs/head_neck.yaml, threads: {arguments.threads}, torch {torch.__version__}", columns, rows)


def measured(samples: int, cube_vox: int, steps: int) -> tuple[str, str, str, str, str]:
    """Return a line: what steps from the first one take, and what of that is for health."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder, watch.running():
        began = time.perf_counter()
        make_run(samples, cube_vox, steps, Path(folder)).run()
        spent = time.perf_counter() - began
    seconds, health_ms = f"{spent / steps:.3f}", f"{1000 * watch.seconds / steps:.2f}"
    return f"1 to {steps}", f"{samples} x {cube_vox}-cube", seconds, health_ms, f"{watch.seconds / spent:.2%}"


def make_run(samples: int, cube_vox: int, steps: int, folder: Path) -> Loop:
    """Return a run whose every batch is the same."""
    config = load([str(ROOT / "configs" / "head_neck.yaml"), f"train.steps={steps}", f"sample.batch={samples}"])
    assert config.labels is not None
    head = Head("softmax", config.labels.build())
    torch.manual_seed(0)
    net = build(config.net, 1, head.channels).to(memory_format=torch.channels_last_3d)
    loss = build_loss(config.loss, head)
    labels = made_labels(head.channels, cube_vox).expand(samples, -1, -1, -1).contiguous()
    draws = tuple(Draw(f"case_{slot}", 1, (0, 0, 0), (0, 0, 0), (False,) * 3, (0, 1, slot)) for slot in range(samples))
    batch = Batch(labels[:, None] + torch.randn(samples, 1, *[cube_vox] * 3), labels, draws)
    names = [draw.case for draw in draws]
    recorder = Recorder(
        folder, head, loss.terms, names, CPU, facts=run_facts(config, head, net, loss.terms, []),
        every=config.train.log_every_steps, after_step=0,
    )  # fmt: skip
    step = Step(net, loss, make_optimiser(net, config.train), device=CPU, amp=None, clip=config.train.clip)
    return Loop(
        step, config.train, config.seed, folder / "state", recorder, batches=lambda *_: iter([batch] * steps),
        validate=None, keep=lambda *_: None,
    )  # fmt: skip


if __name__ == "__main__":
    main()
