"""What the labels and the prediction of a batch say of a run's health."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.head import Head
from pipeline.labels import IGNORE
from pipeline.metrics.overlap import confusion_matrix, confusion_of_union

NAMED_VALUES = 5


def strange_labels(labels: Tensor, classes: int) -> tuple[float, ...]:
    """Return the values, the lowest five, that are neither a class index (0 to `classes`) nor 255.

    labels: of any shape and real type.
    """
    # Ignored voxels, 255, become 0: one pass then tells of nearly every batch that all is well.
    if labels.dtype == torch.uint8 and int((labels + 1).max()) <= classes + 1:
        return ()
    found = torch.unique(labels)
    return tuple(found[~_known(found, classes)][:NAMED_VALUES].tolist())


def _known(labels: Tensor, classes: int) -> Tensor:
    """Return where labels are a class index or 255: bool, of their shape."""
    return torch.isin(labels, torch.tensor([*range(classes + 1), IGNORE], dtype=labels.dtype, device=labels.device))


@dataclass(frozen=True, eq=False)
class Overlap:
    """What the prediction of a batch has in common with its labels.

    predicted: share of voxels by class name, background included. targets: names of the head's targets.
    voxels: int64 (B, targets, 2), of each sample and target those in both, and the sum of those in each.
    """

    predicted: dict[str, float]
    targets: tuple[str, ...]
    voxels: np.ndarray

    @property
    def dice(self) -> dict[str, float]:
        """Dice by target of all samples together, without targets that are nowhere."""
        return dice_by_target(self.voxels.sum(axis=0), self.targets)

    def dice_of_samples(self) -> list[float | None]:
        """Return of each sample the mean Dice of its targets, None where it has none and none was predicted."""
        found = [dice_by_target(voxels, self.targets).values() for voxels in self.voxels]
        return [sum(values) / len(values) if values else None for values in found]


def overlap_of(logits: Tensor, labels: Tensor, head: Head) -> Overlap:
    """Compare a prediction's logits (B, C, x, y, z) with labels (B, x, y, z).

    Labels that are no class index are ignored, whatever their type.
    """
    classes = len(head.labels.names)
    decided, labels = head.decide(logits).cpu(), labels.cpu()
    if strange_labels(labels, classes):
        labels = torch.where(_known(labels, classes), labels, IGNORE).to(torch.uint8)
    names = ("background", *head.labels.names)
    counts = torch.bincount(decided.flatten(), minlength=len(names)).tolist()
    pairs = zip(labels.numpy(), decided.numpy(), strict=True)
    voxels = np.stack([voxels_by_target(confusion_matrix(*pair, classes), head) for pair in pairs])
    shares = {name: count / decided.numel() for name, count in zip(names, counts, strict=True)}
    return Overlap(shares, head.target_names, voxels)


def voxels_by_target(confusion: np.ndarray, head: Head) -> np.ndarray:
    """Return of each target the voxels in truth and prediction, and the sum of those in each: int64 (targets, 2)."""
    unions = [confusion_of_union(confusion, target) for target in head.targets]
    return np.array([(union[1, 1], union[1].sum() + union[:, 1].sum()) for union in unions])


def dice_by_target(voxels: np.ndarray, targets: Sequence[str]) -> dict[str, float]:
    """Return Dice by target of what `voxels_by_target` counted, without targets that are nowhere."""
    return {name: 2 * common / both for name, (common, both) in zip(targets, voxels.tolist(), strict=True) if both}
