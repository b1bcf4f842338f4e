"""From the config's section to a loss."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from pipeline.config.loss import LossSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.losses import terms
from pipeline.losses.loss import Loss, Term

TERMS_OF = {
    "dice_ce": ("dice", "ce"),
    "bce_dice": ("bce", "dice"),
    "dice": ("dice",),
    "ce": ("ce",),
    "bce": ("bce",),
    "focal": ("focal",),
}


def build(section: LossSection, head: Head, head_weights: Sequence[float] = ()) -> Loss:
    """Return the loss that a config's `loss` section describes, under a head.

    In a sum of two Dice has the share alpha (0.5 by default) and the other term 1 - alpha.
    head_weights: `net.head_weights`, see Loss. Raises UserError if the loss does not fit the head, or a class weight
    has no channel.
    """
    names = TERMS_OF[section.name_under(head.kind)]
    shares = dict.fromkeys(names, 1.0)
    if len(names) == 2:
        alpha = 0.5 if section.alpha is None else section.alpha
        shares = {name: alpha if name == "dice" else 1 - alpha for name in names}
    possible: dict[str, Term] = {
        "dice": partial(terms.dice, smooth=section.smooth, over=section.dice_over),
        "ce": terms.cross_entropy,
        "bce": terms.cross_entropy,
        "focal": partial(terms.focal, alpha=0.8 if section.alpha is None else section.alpha, gamma=section.gamma),
    }
    return Loss(head, {name: possible[name] for name in names}, shares, _class_weights(section, head), head_weights)


def _class_weights(section: LossSection, head: Head) -> Tensor:
    strange = [name for name in section.class_weights if name not in head.channel_names]
    if strange:
        raise UserError(
            f"loss.class_weights: {', '.join(strange)} has no channel under a {head.kind} head; expected some of "
            f"{', '.join(head.channel_names)}."
        )
    return torch.tensor([section.class_weights.get(name, 1.0) for name in head.channel_names])
