"""What one case scores, by class and metric, and the rule for a class that only one side has."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Literal

import numpy as np
from scipy.ndimage import find_objects

from pipeline.labels import IGNORE, Labels
from pipeline.metrics.overlap import confusion_matrix, dice, iou, prediction_voxels, truth_voxels
from pipeline.metrics.surface import hausdorff_mm, surface_dice, surface_distances

State = Literal["both", "missed", "false_alarm", "absent"]
Spacing = tuple[float, float, float]
Box = tuple[slice, ...]

QUALITY = ("dice", "iou", "hd95_mm", "nsd")
METRICS = (*QUALITY, "volume_ml_truth", "volume_ml_prediction")


@dataclass(frozen=True)
class Score:
    """One number about one class of one case.

    metric: dice, iou, nsd (0..1), hd95_mm (mm), volume_ml_truth or volume_ml_prediction (ml).
    value: NaN where the state is absent, volumes apart.
    state: who has the class: both, the truth alone (missed), the prediction alone (false_alarm), or neither (absent).
    """

    case: str
    label: str
    metric: str
    value: float
    state: State

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; not-a-number becomes None, as JSON has no name for it."""
        return {**vars(self), "value": None if isnan(self.value) else self.value}

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> "Score":
        """Make a score of what `to_json` gave."""
        return cls(**{**given, "value": float("nan") if given["value"] is None else given["value"]})


def score_case(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Spacing,
    labels: Labels,
    metrics: Sequence[str] = METRICS,
    *,
    case: str = "",
    tolerance_mm: float = 2.0,
) -> list[Score]:
    """Score a prediction against the truth: one Score for each class and metric, classes in the order of `labels`.

    truth, prediction: encoded labels (x, y, z), uint8: 0 is background, 255 is ignored. Voxels that the truth ignores
        count as background on both sides, and in no volume.
    spacing_mm: voxel size along x, y, z.
    metrics: names out of METRICS; the surfaces are looked at only where hd95_mm or nsd is among them.
    tolerance_mm: distance up to which nsd, the normalised surface Dice, forgives.

    A class that only one side has gets the worst value that there is: Dice, IoU and NSD 0, HD95 the diagonal of the
    image, which no measured distance exceeds. So a miss never improves a mean. A class that neither has is NaN, to be
    left out of means. Raises ValueError for an unknown metric, shapes that differ, or labels without a class.
    """
    unknown = set(metrics) - set(METRICS)
    if unknown:
        raise ValueError(f"unknown metrics {sorted(unknown)}; known are {', '.join(METRICS)}")
    confusion = confusion_matrix(truth, prediction, len(labels.names))
    in_truth, in_prediction = truth_voxels(confusion), prediction_voxels(confusion)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    values = {
        "dice": dice(confusion),
        "iou": iou(confusion),
        "volume_ml_truth": in_truth * voxel_ml,
        "volume_ml_prediction": in_prediction * voxel_ml,
    }
    states = [_state(bool(t), bool(p)) for t, p in zip(in_truth, in_prediction, strict=True)]
    if {"hd95_mm", "nsd"} & set(metrics):
        values["hd95_mm"], values["nsd"] = _surface_scores(truth, prediction, spacing_mm, states, tolerance_mm)
    return [
        Score(case, name, metric, float(values[metric][position]), states[position])
        for position, name in enumerate(labels.names)
        for metric in metrics
    ]


def _state(in_truth: bool, in_prediction: bool) -> State:
    """Name who has a class."""
    if in_truth:
        return "both" if in_prediction else "missed"
    return "false_alarm" if in_prediction else "absent"


def _surface_scores(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: Spacing, states: Sequence[State], tolerance_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return HD95 in mm and the surface Dice of each class, each float64 (classes,)."""
    prediction = np.where(truth == IGNORE, np.uint8(0), prediction)
    truth_boxes = find_objects(truth, max_label=len(states))
    prediction_boxes = find_objects(prediction, max_label=len(states))
    diagonal_mm = float(np.linalg.norm(np.multiply(truth.shape, spacing_mm)))
    hd95_mm = np.full(len(states), np.nan)
    nsd = np.full(len(states), np.nan)
    for position, state in enumerate(states):
        if state == "both":
            box = _union(truth_boxes[position], prediction_boxes[position])
            label = position + 1
            distances = surface_distances(truth[box] == label, prediction[box] == label, spacing_mm)
            hd95_mm[position] = hausdorff_mm(distances)
            nsd[position] = surface_dice(distances, tolerance_mm)
        elif state != "absent":
            hd95_mm[position], nsd[position] = diagonal_mm, 0.0
    return hd95_mm, nsd


def _union(first: Box, second: Box) -> Box:
    """Return the smallest box that holds two boxes."""
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
