"""What training minimises."""

from typing import Literal

from pydantic import Field

from pipeline.config.section import Positive, Probability, Section
from pipeline.errors import UserError

ONLY_SOFTMAX = ("dice_ce", "ce")
NEVER_SOFTMAX = ("bce_dice", "bce")


class LossSection(Section):
    name: Literal["auto", "dice_ce", "bce_dice", "dice", "ce", "bce", "focal"] = Field(
        "auto", description="auto: dice_ce under a softmax head, bce_dice under sigmoid and regions"
    )
    alpha: Probability | None = Field(
        None, description="share of Dice in a sum of two (default 0.5), weight of foreground in focal (default 0.8)"
    )
    smooth: float = Field(1e-5, ge=1e-10, description="added to both sides of the Dice fraction")
    gamma: float = Field(2.0, ge=0, description="focusing power of focal")
    dice_over: Literal["present", "all"] = Field("present", description="classes that Dice is averaged over")
    class_weights: dict[str, Positive] = Field({}, description="weight by class name, background included; others 1")

    def name_under(self, head: str) -> str:
        """Return the loss that `name` means under a kind of head; raise UserError where the two do not fit."""
        if self.name == "auto":
            return "dice_ce" if head == "softmax" else "bce_dice"
        wrong = NEVER_SOFTMAX if head == "softmax" else ONLY_SOFTMAX
        if self.name in wrong:
            raise UserError(
                f"loss.name: {self.name} does not fit head.kind {head}; expected one of auto, dice, focal, "
                f"{', '.join(ONLY_SOFTMAX if head == 'softmax' else NEVER_SOFTMAX)}. Set loss.name=auto."
            )
        return self.name
