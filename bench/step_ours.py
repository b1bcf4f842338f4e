"""Our side of `bench/step.py`: the stage `train`, with a clock around the parts of its steps.

python -m bench.step_ours RESULT.json WARMUP KEY=VALUE ...
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from pipeline import cli
from pipeline.training.loop import Loop
from pipeline.training.recorder import Recorder
from pipeline.training.step import Step

# What is timed, and what its time is counted as. Parts within the step overlap with it.
TIMED: tuple[tuple[Any, str, str], ...] = (
    (Loop, "_next_batch", "waiting"),
    (Step, "__call__", "step"),
    (Step, "forward", "forward"),
    (torch.Tensor, "backward", "backward"),
    (torch.nn.utils, "clip_grad_norm_", "optimiser"),
    (torch.amp.GradScaler, "step", "optimiser"),
    (Recorder, "step", "recording"),
    (Loop, "save", "saving"),
)


class Clock:
    """Notes when each step of a run ends, and what its parts have taken until then."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.ends: list[tuple[float, Counter[str]]] = []
        self.parameters = 0

    def watch(self) -> None:
        """Put a clock around what is timed, and one around whole steps."""
        for owner, name, part in TIMED:
            setattr(owner, name, self.timed(getattr(owner, name), part))
        one = Loop._one

        def noted(loop: Loop) -> None:
            one(loop)
            self.ends.append((time.monotonic(), self.seconds.copy()))
            self.parameters = sum(parameter.numel() for parameter in loop.step.net.parameters())

        Loop._one = noted

    def timed(self, call: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return a function that does the same and adds the time to that of the part."""

        def counted(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*given, **named)
            finally:
                self.seconds[part] += time.perf_counter() - began

        return counted

    def result(self, warmup: int) -> dict[str, Any]:
        """Return figures of the steps behind the warm-up, and when the first one ended by the machine's clock."""
        (began, before), (ended, after) = self.ends[warmup - 1], self.ends[-1]
        times = [time for time, _ in self.ends[warmup - 1 :]]
        return {
            "parameters": self.parameters,
            "step_s": [later - earlier for earlier, later in pairwise(times)],
            "share": {part: (after[part] - before[part]) / (ended - began) for _, _, part in TIMED},
            "save_s": self.seconds["saving"],  # those at the end: the state, then its facts again
            "first_step_ended": self.ends[0][0],
        }


def main() -> None:
    """Train, and write down what the steps took."""
    clock = Clock()
    clock.watch()
    code = cli.main("train", sys.argv[3:])
    if code:
        sys.exit(code)
    Path(sys.argv[1]).write_text(json.dumps(clock.result(int(sys.argv[2]))))


if __name__ == "__main__":
    main()
