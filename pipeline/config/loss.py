"""What training minimises."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.config.section import Probability, Section, Weight
from pipeline.config.text import in_line
from pipeline.errors import UserError

ONLY_SOFTMAX = ("dice_ce", "ce")
NEVER_SOFTMAX = ("bce_dice", "bce")
ANY_HEAD = ("dice", "tversky", "focal_tversky", "generalised_dice", "focal", "topk", "dice_topk", "structure")
DICE_AND_KIN = (
    "dice", "dice_ce", "bce_dice", "dice_topk", "tversky", "focal_tversky", "generalised_dice", "structure",
)  # fmt: skip
USED_BY = {
    "alpha": ("dice_ce", "bce_dice", "dice_topk", "focal"),
    "beta": ("tversky", "focal_tversky"),
    "gamma": ("focal", "focal_tversky"),
    "smooth": DICE_AND_KIN,
    "dice_over": DICE_AND_KIN,
    "hardest": ("topk", "dice_topk"),
    "box_vox": ("structure",),
}
NEEDS = {"boundary_warm_up": "boundary", "tube_weight": "tubes"}
FOCUS = {"focal": 2.0, "focal_tversky": 0.75}  # as published


def check_odd(width: int) -> int:
    """Accept odd numbers: a box has a voxel in its middle."""
    if width % 2 == 0:
        raise ValueError("expected an odd number, such as 15")
    return width


class LossSection(Section):
    name: Literal[
        "auto", "dice_ce", "bce_dice", "dice", "ce", "bce", "focal", "tversky", "focal_tversky", "generalised_dice",
        "topk", "dice_topk", "structure",
    ] = Field("auto", description="auto: dice_topk under a softmax head, bce_dice under others")  # fmt: skip
    alpha: Probability | None = Field(
        None, description="share of Dice in a sum of two (default 0.5), weight of foreground in focal (default 0.8)"
    )
    beta: Probability = Field(0.7, description="weight of missed voxels in tversky, 1 - beta of those found falsely")
    gamma: Annotated[float, Field(ge=0)] | None = Field(
        None, description="focusing power of focal (default 2) and of focal_tversky (default 0.75, above 0)"
    )
    smooth: float = Field(1e-5, ge=1e-10, description="added to both sides of the Dice fraction and its kin")
    dice_over: Literal["present", "all"] = Field("present", description="classes that Dice and its kin average over")
    hardest: float = Field(0.1, gt=0, le=1, description="part of the voxels that topk counts, the hardest")
    box_vox: int = Field(15, ge=3, description="width of structure's mean around a voxel, odd")
    boundary: float = Field(0.0, ge=0, le=1e6, description="factor of the boundary loss that is added; 0: none")
    boundary_warm_up: bool = Field(True, description="let each class's boundary count as far as its Dice has come")
    tubes: tuple[str, ...] = Field((), description="classes whose centre lines' recall is added: vessels, cord, nerves")
    tube_weight: Weight = Field(1.0, description="factor of the recall of centre lines, where there are tubes")
    class_weights: dict[str, Weight] | Literal["auto"] = Field(
        {}, description="weight by class name, background included, others 1; auto: from the training cases' voxels"
    )

    _box_vox = field_validator("box_vox")(check_odd)

    def name_under(self, head: str) -> str:
        """Return the loss that `name` means under a kind of head; raise UserError where they do not fit."""
        if self.name == "focal_tversky" and self.gamma == 0:
            raise UserError(
                "loss.gamma: found 0, which makes loss.name=focal_tversky 1 whatever is predicted; expected a number "
                "above 0, such as loss.gamma=0.75."
            )
        if self.name == "auto":
            return "dice_topk" if head == "softmax" else "bce_dice"
        if self.name in (NEVER_SOFTMAX if head == "softmax" else ONLY_SOFTMAX):
            fitting = ("auto", *(ONLY_SOFTMAX if head == "softmax" else NEVER_SOFTMAX), *ANY_HEAD)
            raise UserError(
                f"loss.name: {self.name} does not fit head.kind {head}; expected one of {', '.join(fitting)}. "
                "Set loss.name=auto."
            )
        return self.name

    def check_used(self, head: str) -> None:
        """Raise UserError where a key has been changed that the loss makes no use of under a kind of head."""
        name = self.name_under(head)
        changed = [key for key, field in type(self).model_fields.items() if getattr(self, key) != field.default]
        for key in changed:
            found = f"loss.{key}: found {in_line(getattr(self, key))}, which"
            if name not in USED_BY.get(key, (name,)):
                raise UserError(
                    f"{found} loss.name={name} makes no use of; expected loss.name={' or '.join(USED_BY[key])}; choose "
                    "that, or leave the key out."
                )
            if key in NEEDS and not getattr(self, NEEDS[key]):
                raise UserError(f"{found} counts only with loss.{NEEDS[key]}; set that too, or leave the key out.")

    @property
    def focus(self) -> float:
        """The focusing power: `gamma`, or what was published with the loss."""
        return FOCUS.get(self.name, 0.0) if self.gamma is None else self.gamma
