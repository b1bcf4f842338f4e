"""One record a validation: scores of whole held-out volumes, beside what training saw since the last one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingCase:
    """What the patches of a training case gave since the last validation: how many, their mean loss and mean Dice.

    dice: of the foreground, over the patches that it was measured on; None where there were none.
    """

    patches: int
    loss: float
    dice: float | None


@dataclass(frozen=True)
class Checkup:
    """The signs of one validation. Dice is by target of the head, without those that no case has.

    dice: over whole volumes, the mean over cases. near_dice: the same within a patch around each case's target.
    partner_dice: of a target's prediction with the truth of its partner on the other side of the body, over the cases
    that have both.
    truth_share, predicted_share: of all voxels, by class name, background included.
    cases: mean Dice by held-out case. training_dice: of patches since the last validation. training: by training case.
    Where none are held out, all but the last two are empty.
    """

    step: int
    dice: dict[str, float]
    near_dice: dict[str, float]
    partner_dice: dict[str, float]
    truth_share: dict[str, float]
    predicted_share: dict[str, float]
    cases: dict[str, float]
    training_dice: dict[str, float]
    training: dict[str, TrainingCase]
