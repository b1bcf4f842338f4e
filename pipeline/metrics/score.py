"""What one case scores, by class or region and metric, and the rule for one that only one side has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import isnan
from typing import Any, Literal

import numpy as np
from scipy.ndimage import find_objects

from pipeline.labels import IGNORE, Labels
from pipeline.metrics.overlap import confusion_matrix, confusion_of_union, dice, iou, prediction_voxels, truth_voxels
from pipeline.metrics.surface import hausdorff_mm, surface_dice, surface_distances

State = Literal["both", "missed", "false_alarm", "absent"]
Spacing = tuple[float, float, float]
Box = tuple[slice, ...]

QUALITY = ("dice", "iou", "hd95_mm", "nsd")
METRICS = (*QUALITY, "volume_ml_truth", "volume_ml_prediction")


@dataclass(frozen=True)
class Score:
    """One number about one target of one case.

    label: name of the target, a class or a region.
    metric: dice, iou, nsd (0..1), hd95_mm (mm), volume_ml_truth or volume_ml_prediction (ml).
    value: NaN where the state is absent, volumes apart.
    state: who has the target: both, the truth alone (missed), the prediction alone (false_alarm), or neither (absent).
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
    targets: Mapping[str, Sequence[int]] | None = None,
    case: str = "",
    tolerance_mm: float = 2.0,
) -> list[Score]:
    """Score a prediction against the truth: one Score for each target and metric, in their order.

    truth, prediction: encoded labels (x, y, z), uint8: 0 is background, 255 is ignored. Voxels that the truth ignores
        count as background on both sides, and in no volume.
    spacing_mm: voxel size along x, y, z.
    metrics: names out of METRICS; the surfaces are looked at only where hd95_mm or nsd is among them.
    targets: name -> class indices whose union is scored, which may overlap; by default each class of `labels` alone.
    tolerance_mm: distance up to which nsd, the normalised surface Dice, forgives.

    A target that only one side has gets the worst value that there is: Dice, IoU and NSD 0, HD95 the diagonal of the
    image, which no measured distance exceeds. So a miss never improves a mean. A target that neither has is NaN, to
    be left out of means. Raises ValueError for an unknown metric, shapes that differ, or labels without a class.
    """
    unknown = set(metrics) - set(METRICS)
    if unknown:
        raise ValueError(f"unknown metrics {sorted(unknown)}; known are {', '.join(METRICS)}")
    if targets is None:
        targets = {name: (label,) for label, name in enumerate(labels.names, 1)}
    confusion = confusion_matrix(truth, prediction, len(labels.names))
    unions = [confusion_of_union(confusion, classes) for classes in targets.values()]
    in_truth = [truth_voxels(union).item() for union in unions]
    in_prediction = [prediction_voxels(union).item() for union in unions]
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    values = {
        "dice": [dice(union).item() for union in unions],
        "iou": [iou(union).item() for union in unions],
        "volume_ml_truth": [voxels * voxel_ml for voxels in in_truth],
        "volume_ml_prediction": [voxels * voxel_ml for voxels in in_prediction],
    }
    states = [_state(t > 0, p > 0) for t, p in zip(in_truth, in_prediction, strict=True)]
    if {"hd95_mm", "nsd"} & set(metrics):
        prediction = np.where(truth == IGNORE, np.uint8(0), prediction)
        surfaces = _surface_scores(truth, prediction, spacing_mm, [*targets.values()], states, tolerance_mm)
        values["hd95_mm"], values["nsd"] = surfaces
    return [
        Score(case, name, metric, values[metric][position], states[position])
        for position, name in enumerate(targets)
        for metric in metrics
    ]


def _state(in_truth: bool, in_prediction: bool) -> State:
    """Name who has a target."""
    if in_truth:
        return "both" if in_prediction else "missed"
    return "false_alarm" if in_prediction else "absent"


def _surface_scores(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Spacing,
    targets: Sequence[Sequence[int]],
    states: Sequence[State],
    tolerance_mm: float,
) -> tuple[list[float], list[float]]:
    """Return HD95 in mm and the surface Dice of each target."""
    boxes = [find_objects(side, max_label=IGNORE - 1) for side in (truth, prediction)]
    diagonal_mm = float(np.linalg.norm(np.multiply(truth.shape, spacing_mm)))
    hd95_mm = [float("nan")] * len(targets)
    nsd = [float("nan")] * len(targets)
    for position, (classes, state) in enumerate(zip(targets, states, strict=True)):
        if state == "both":
            box = _union([found[label - 1] for found in boxes for label in classes])
            distances = surface_distances(_mask(truth[box], classes), _mask(prediction[box], classes), spacing_mm)
            hd95_mm[position] = hausdorff_mm(distances)
            nsd[position] = surface_dice(distances, tolerance_mm)
        elif state != "absent":
            hd95_mm[position], nsd[position] = diagonal_mm, 0.0
    return hd95_mm, nsd


def _union(boxes: Iterable[Box | None]) -> Box:
    """Return the smallest box that holds all boxes; None, for what is nowhere, is left out."""
    present = [box for box in boxes if box is not None]
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*present, strict=True))


def _mask(labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Return where labels are one of some classes, at least one; bool of the same shape."""
    return reduce(np.logical_or, [labels == label for label in classes])
