"""Scores of whole held-out volumes, through the code that users run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.config.infer import InferSection
from pipeline.inference.predict import Predict, predictor
from pipeline.inference.segment import segment
from pipeline.metrics.score import score_case
from pipeline.model import ModelFacts
from pipeline.report.figures import overlay_slice
from pipeline.store.reader import PreparedCase
from pipeline.volume.volume import Volume


@dataclass(frozen=True, eq=False)
class Validation:
    """Scores of the held-out cases.

    dice: mean over cases by target of the head, a class or region, NaN where no case has it, nor any prediction.
    mean: over cases of the mean over their targets; NaN where no target is anywhere.
    picture: the first case's slice with most foreground, truth and prediction over it, (height, width, 3) uint8.
    """

    dice: dict[str, float]
    mean: float
    picture: np.ndarray


def validate(
    net: nn.Module, cases: Sequence[PreparedCase], facts: ModelFacts, infer: InferSection,
    device: torch.device, check: Callable[[], None],
) -> Validation:  # fmt: skip
    """Segment every case (at least one) on the training grid and score it by Dice.

    check: called before every group of windows; it may raise to end the validation.
    """
    predict = interruptible(predictor(net, facts.head, infer, device), check)
    targets = dict(zip(facts.head.target_names, facts.head.targets, strict=True))
    scores = np.full((len(cases), len(targets)), np.nan)
    picture = None
    for row, case in enumerate(cases):
        image, truth = case.read((0, 0, 0), case.grid.shape_vox)
        prediction = segment(Volume(image, case.grid), predict, facts, infer).voxels
        scored = score_case(truth, prediction, case.grid.spacing_mm, facts.labels, ["dice"], targets=targets)
        scores[row] = [score.value for score in scored]
        if picture is None:
            z = int(np.argmax(np.count_nonzero((truth > 0) & (truth <= len(facts.labels.names)), axis=(0, 1))))
            picture = overlay_slice(image[..., z], truth[..., z], prediction[..., z], facts.intensity.window_hu)
    assert picture is not None, "no case to validate on"
    return Validation(
        dice={name: mean_of(scores[:, column]) for column, name in enumerate(targets)},
        mean=mean_of(np.array([mean_of(row) for row in scores])),
        picture=picture,
    )


def mean_of(values: np.ndarray) -> float:
    """Return the mean of the values that are numbers, NaN where there is none."""
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if len(numbers) else float("nan")


def interruptible(predict: Predict, check: Callable[[], None]) -> Predict:
    """Return `predict` with a call of `check` before every group of windows."""

    def checked(windows: torch.Tensor) -> torch.Tensor:
        check()
        return predict(windows)

    return checked
