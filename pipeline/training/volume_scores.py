"""What one held-out volume says of a run: Dice as a whole, near the targets, and with the other side's target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from pipeline.config.check import names_side, other_side
from pipeline.head import Head
from pipeline.metrics.overlap import confusion_matrix, confusion_of_union, dice
from pipeline.volume.grid import Int3

Box = tuple[slice, ...]
DICES = ("dice", "near_dice", "partner_dice")  # of VolumeScores, by target


@dataclass(frozen=True, eq=False)
class VolumeScores:
    """Dice by target of the head, NaN where there is none to tell, and the voxels by class.

    near_dice: within a patch around a voxel in the middle of the target's truth; NaN where the truth has none.
    partner_dice: of the target's prediction with the truth of its partner; NaN where the truth lacks one of them.
    truth_voxels, predicted_voxels: by class, background first, without what the truth ignores.
    """

    dice: dict[str, float]
    near_dice: dict[str, float]
    partner_dice: dict[str, float]
    truth_voxels: Sequence[int]
    predicted_voxels: Sequence[int]

    @property
    def present_dice(self) -> dict[str, float]:
        """`dice` of the targets that the truth has, NaN for the others."""
        return {name: nan if isnan(self.near_dice[name]) else value for name, value in self.dice.items()}

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; NaN becomes null."""
        dices = {key: {name: None if isnan(value) else value for name, value in getattr(self, key).items()}
                 for key in DICES}  # fmt: skip
        return {**vars(self), **dices}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "VolumeScores":
        """Return what `to_json` gave."""
        dices = {key: {name: nan if value is None else value for name, value in saved[key].items()} for key in DICES}
        return cls(**{**saved, **dices})


def score_volume(
    truth: np.ndarray, prediction: np.ndarray, head: Head, patch_vox: Int3, partners: Mapping[str, str]
) -> VolumeScores:
    """Compare a prediction with the truth: class indices, uint8 (x, y, z), 255 where the truth ignores.

    patch_vox: size of the box that is near. partners: see `partners_of`.
    """
    classes = len(head.labels.names)
    targets = dict(zip(head.target_names, head.targets, strict=True))
    confusion = confusion_matrix(truth, prediction, classes)
    objects = find_objects(truth, max_label=classes)
    near = dict.fromkeys(targets, nan)
    for name, target in targets.items():
        boxes = [found for label in target if (found := objects[label - 1]) is not None]
        if boxes:
            box = box_around(middle_of(truth, target, boxes), patch_vox)
            inside = confusion_matrix(truth[box], prediction[box], classes)
            near[name] = dice(confusion_of_union(inside, target)).item()
    return VolumeScores(
        dice={name: dice(confusion_of_union(confusion, target)).item() for name, target in targets.items()},
        near_dice=near,
        partner_dice={
            name: dice_of_others(confusion, targets[partner], targets[name]) for name, partner in partners.items()
        },
        truth_voxels=confusion.sum(axis=1).tolist(),
        predicted_voxels=confusion.sum(axis=0).tolist(),
    )


def middle_of(truth: np.ndarray, target: Sequence[int], boxes: Sequence[Box]) -> list[int]:
    """Return the index of the voxel of a target that is nearest its centroid, which itself may lie beside the target.

    truth: as in `score_volume`. boxes: of the target's classes, at least one.
    """
    hull = tuple(slice(min(s.start for s in side), max(s.stop for s in side)) for side in zip(*boxes, strict=True))
    voxels = np.argwhere(np.isin(truth[hull], target))
    # Half a voxel further: a box of even size then lies evenly around a block of even size.
    distances = np.square(voxels - (voxels.mean(axis=0) + 0.5)).sum(axis=1)
    nearest = voxels[distances.argmin()]
    return [side.start + int(index) for side, index in zip(hull, nearest, strict=True)]


def box_around(middle: Sequence[int], shape_vox: Int3) -> Box:
    """Return the box of a shape around a voxel; it ends where the volume begins."""
    starts = [index - size // 2 for index, size in zip(middle, shape_vox, strict=True)]
    return tuple(slice(max(0, start), start + size) for start, size in zip(starts, shape_vox, strict=True))


def dice_of_others(confusion: np.ndarray, truth: Sequence[int], prediction: Sequence[int]) -> float:
    """Return Dice of some classes' truth with the prediction of others; NaN where the truth lacks either of them."""
    in_truth, own = confusion[list(truth)], confusion[list(prediction)]
    if not in_truth.sum() or not own.sum():
        return nan
    predicted = confusion[:, list(prediction)].sum()
    return float(2 * in_truth[:, list(prediction)].sum() / (in_truth.sum() + predicted))


def partners_of(head: Head) -> dict[str, str]:
    """Return the target on the other side of the body of every target that has one: by `labels.swap`, else by name."""
    name_of = {frozenset(target): name for name, target in zip(head.target_names, head.targets, strict=True)}
    found: dict[str, str] = {}
    for union, name in name_of.items():
        swapped = frozenset(head.labels.swapped(label) for label in union)
        partner = other_side(name) if swapped == union and names_side(name) else name_of.get(swapped)
        if partner is not None and partner in name_of.values() and partner != name:
            found[name] = partner
    return found
