"""From the config's section to a loss."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from pipeline.config.loss import LossSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.losses import overlap, shape, terms
from pipeline.losses.balance import class_weights_of
from pipeline.losses.contour import weigh_contours
from pipeline.losses.loss import Loss, Term
from pipeline.losses.shape import ShapeTerm
from pipeline.volume.grid import Float3

TERMS_OF = {
    "dice_ce": ("dice", "ce"),
    "bce_dice": ("bce", "dice"),
    "dice_topk": ("dice", "topk"),
}  # the others are a term of their own name


def build(
    section: LossSection,
    head: Head,
    head_weights: Sequence[float] = (),
    *,
    spacing_mm: Float3 = (1.0, 1.0, 1.0),
    voxel_counts: Mapping[int, int] | None = None,
) -> Loss:
    """Return the loss that a config's `loss` section describes, under a head.

    In a sum of two Dice has the share alpha (0.5 by default) and the other term 1 - alpha; the two of the structure
    loss count 1 each. Boundary loss and recall of centre lines are added to whatever loss it is.
    head_weights: `net.head_weights`, see Loss. spacing_mm: of the training grid.
    voxel_counts: class index -> voxels in the training cases, for loss.class_weights=auto; without them, as where only
    the cost of a step is measured, its weights are 1.
    Raises UserError if the loss does not fit the head, or a class weight or tube has no channel.
    """
    name = section.name_under(head.kind)
    possible = _terms(section)
    weigh = None
    if name == "structure":
        names: tuple[str, ...] = ("ce" if head.kind == "softmax" else "bce", "jaccard")
        weigh = partial(weigh_contours, box_vox=section.box_vox)
    else:
        names = TERMS_OF.get(name, (name,))
    shares = dict.fromkeys(names, 1.0)
    if name in TERMS_OF:
        alpha = 0.5 if section.alpha is None else section.alpha
        shares = {part: alpha if part == "dice" else 1 - alpha for part in names}
    shape_terms, shape_shares = _shape_terms(section, head, spacing_mm)
    return Loss(
        head, {part: possible[part] for part in names}, shares | shape_shares,
        _class_weights(section, head, voxel_counts), head_weights, shape_terms, weigh,
    )  # fmt: skip


def _terms(section: LossSection) -> dict[str, Term]:
    tversky = partial(overlap.tversky, beta=section.beta, smooth=section.smooth, over=section.dice_over)
    return {
        "dice": partial(overlap.dice, smooth=section.smooth, over=section.dice_over),
        "tversky": tversky,
        "focal_tversky": partial(tversky, power=section.focus),
        "generalised_dice": partial(overlap.generalised_dice, smooth=section.smooth, over=section.dice_over),
        "jaccard": partial(overlap.jaccard, smooth=section.smooth, over=section.dice_over),
        "ce": terms.cross_entropy,
        "bce": terms.cross_entropy,
        "focal": partial(terms.focal, alpha=0.8 if section.alpha is None else section.alpha, gamma=section.focus),
        "topk": partial(terms.top_cross_entropy, fraction=section.hardest),
    }


def _shape_terms(section: LossSection, head: Head, spacing_mm: Float3) -> tuple[dict[str, ShapeTerm], dict[str, float]]:
    """Return the terms that look at objects, and their factors."""
    found: dict[str, ShapeTerm] = {}
    shares: dict[str, float] = {}
    if section.boundary:
        found["boundary"] = partial(shape.boundary, spacing_mm=spacing_mm, warm_up=section.boundary_warm_up)
        shares["boundary"] = section.boundary
    if section.tubes:
        _refuse_strangers("loss.tubes", section.tubes, head, head.target_names)
        channels = tuple(head.target_names.index(name) for name in section.tubes)
        found["skeleton_recall"] = partial(shape.skeleton_recall, spacing_mm=spacing_mm, channels=channels)
        shares["skeleton_recall"] = section.tube_weight
    return found, shares


def _class_weights(section: LossSection, head: Head, voxel_counts: Mapping[int, int] | None) -> Tensor:
    given = section.class_weights
    if given == "auto":
        return torch.ones(head.channels) if voxel_counts is None else class_weights_of(voxel_counts, head)
    _refuse_strangers("loss.class_weights", list(given), head, head.channel_names)
    return torch.tensor([given.get(name, 1.0) for name in head.channel_names])


def _refuse_strangers(key: str, names: Sequence[str], head: Head, known: Sequence[str]) -> None:
    strange = [name for name in names if name not in known]
    if strange:
        raise UserError(
            f"{key}: {', '.join(strange)} has no channel under a {head.kind} head; expected some of {', '.join(known)}."
        )
