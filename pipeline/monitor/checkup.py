"""One record a validation: scores of whole held-out volumes, beside what training saw since the last one."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainingCase:
    """What the patches of a training case gave since the last validation: how many, their mean loss and mean Dice.

    dice: of the foreground, over the `measured` patches that it was measured on; None where there were none.
    """

    patches: int
    loss: float
    dice: float | None
    measured: int = 0


@dataclass(frozen=True)
class Checkup:
    """The signs of one validation. Dice is by target of the head, without those that no case has.

    dice: over whole volumes, the mean over cases; a case that lacks a target counts, as 0, where it was predicted.
    present_dice: the same over the cases that have the target. near_dice: within a patch around it, over these cases.
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
    present_dice: dict[str, float] = field(default_factory=dict)
