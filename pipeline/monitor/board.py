"""What TensorBoard shows of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from pipeline.monitor.vitals import Vitals

FLUSH_EVERY_S = 10  # torch's own 120 s would hide the first minutes of a run from who watches it


class Board:
    """Scalars, text and images of one run under one folder.

    after_step: where a resumed run goes on. What an earlier attempt wrote beyond it is hidden, so that curves continue
    without a zig-zag; 0 hides all of an attempt that ended before it saved a state.
    """

    def __init__(self, folder: Path, after_step: int = 0) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=after_step + 1, flush_secs=FLUSH_EVERY_S)

    def vitals(self, vitals: Vitals) -> None:
        """Show one step."""
        scalars = {
            "loss/total": vitals.loss,
            **{f"loss/{name}": value for name, value in vitals.parts.items()},
            "optimise/learning_rate": vitals.lr,
            "optimise/gradient_norm": vitals.grad_norm,
            "logits/smallest": vitals.logits_min,
            "logits/largest": vitals.logits_max,
            "sample/positives": sum(vitals.drawn.values()),
            **{f"predicted_share/{name}": value for name, value in vitals.predicted.items()},
            **{f"dice_of_patches/{name}": value for name, value in vitals.dice.items()},
            **({} if vitals.image_std is None else {"sample/image_std": vitals.image_std}),
            **({} if vitals.update_share is None else {"optimise/update_share": vitals.update_share}),
            "memory/peak_gib": vitals.memory_bytes / 2**30,
        }
        self.scalars(scalars, vitals.step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Show named numbers of a step."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def overlay(self, name: str, picture: np.ndarray, step: int) -> None:
        """Show a picture (height, width, 3), uint8."""
        self.writer.add_image(f"overlay/{name}", picture, step, dataformats="HWC")

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Show how numbers (at least one) are spread."""
        self.writer.add_histogram(name, np.asarray(values), step)

    def text(self, name: str, text: str, step: int | None = None) -> None:
        """Show Markdown."""
        self.writer.add_text(name, text, step)

    def close(self) -> None:
        """Write out what is still in memory."""
        self.writer.close()
