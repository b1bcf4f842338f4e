"""What the patches of each training case gave since the last validation: label errors sit in the worst ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.monitor.checkup import TrainingCase
from pipeline.training.signs import Overlap, dice_by_target


class Ledger:
    """Counts patches, loss and Dice by case, and Dice by target, until it is cleared.

    sums: case -> patches, sum of their losses, patches that Dice was measured on, sum of their Dice.
    voxels: see `signs.voxels_by_target`, of all patches together.
    """

    def __init__(self, targets: Sequence[str]) -> None:
        self.targets = tuple(targets)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.sums: dict[str, tuple[int, float, int, float]] = {}
        self.voxels = np.zeros((len(self.targets), 2), np.int64)

    def add(self, cases: Sequence[str], losses: Sequence[float], overlap: Overlap | None) -> None:
        """Count the patches of a step: their cases and losses, and what was predicted in the first of them."""
        scores: list[float | None] = [] if overlap is None else overlap.dice_of_samples()
        scores += [None] * (len(cases) - len(scores))
        for case, loss, dice in zip(cases, losses, scores, strict=True):
            patches, loss_sum, measured, dice_sum = self.sums.get(case, (0, 0.0, 0, 0.0))
            found = (0, 0.0) if dice is None else (1, dice)
            self.sums[case] = (patches + 1, loss_sum + loss, measured + found[0], dice_sum + found[1])
        if overlap is not None:
            self.voxels += overlap.voxels.sum(axis=0)

    def cases(self) -> dict[str, TrainingCase]:
        """Return what each case gave, by name."""
        return {
            name: TrainingCase(patches, loss_sum / patches, dice_sum / measured if measured else None, measured)
            for name, (patches, loss_sum, measured, dice_sum) in sorted(self.sums.items())
        }

    def dice(self) -> dict[str, float]:
        """Return Dice by target of all patches that it was measured on, without targets that were nowhere."""
        return dice_by_target(self.voxels, self.targets)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"targets": self.targets, "sums": self.sums, "voxels": self.voxels.tolist()}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Ledger":
        """Return what `to_json` gave."""
        ledger = cls(saved["targets"])
        ledger.sums = {name: tuple(sums) for name, sums in saved["sums"].items()}
        ledger.voxels = np.array(saved["voxels"], np.int64)
        return ledger
