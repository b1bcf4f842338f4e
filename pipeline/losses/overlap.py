"""Terms on how far prediction and target overlap: closed forms on a Comparison, each (B,), from 0 to 1.

p is the probability, t the target (a class's share of the voxel: 0 or 1 at full resolution), sums run over the valid
voxels of one sample. A sample without a valid voxel gives 0, with gradient 0.

With E = sum |p - t|, P = sum p and T = sum t, a binary target has 2 TP = P + T - E, 2 FP = E + P - T and
2 FN = E - P + T. So every term is computed from E, P and T: none can be negative, and for shares each is smallest at
p = t (Wang et al. 2023, "Dice Semimetric Losses").

over: "all" channels, or those "present" in the sample. Where none is present each channel is scored by its complement,
in which background is what is to be found: what is found falsely costs in proportion, whereas the plain forms would be
close to 1 with next to no gradient whatever p is. Channels are weighted by class weight; softmax's background is left
to other terms.
"""

import torch
from torch import Tensor

from pipeline.losses.comparison import Comparison


def dice(compared: Comparison, *, smooth: float, over: str) -> Tensor:
    """Return the mean over channels of E / (P + T + smooth): 1 - (2 TP + smooth) / (P + T + smooth) for binary t.

    Milletari et al. 2016, "V-Net", without their squares.
    """
    size, weights = _counted(compared, over)
    return _mean(compared.error / (size + smooth), weights)


def tversky(compared: Comparison, *, beta: float, smooth: float, over: str, power: float = 1.0) -> Tensor:
    """Return the mean over channels of W^power, W = w / (TP + w + smooth / 2), w = (1 - beta) FP + beta FN.

    Salehi et al. 2017; at beta 0.5 and power 1 it is `dice`. With a power under 1 it is the focal Tversky loss, power
    being 1 / gamma of Abraham and Khan 2018 (theirs 3/4).
    """
    size, weights = _counted(compared, over)
    twice_wrong = (compared.error + (1 - 2 * beta) * (compared.predicted - compared.wanted)).clamp_min(0)
    twice_right = (size - compared.error).clamp_min(0)
    index = twice_wrong / (twice_right + twice_wrong + smooth)
    # a power below 1 has no finite derivative at 0: below an epsilon it goes on as a line
    focus = index.clamp_min(torch.finfo(index.dtype).eps).pow(power - 1)
    return _mean(index * focus, weights)


def generalised_dice(compared: Comparison, *, smooth: float, over: str) -> Tensor:
    """Return sum_c v_c E_c / (sum_c v_c (P_c + T_c) + smooth), v_c = (least T / T_c)^2: small classes count as much.

    Sudre et al. 2017, whose v_c = 1 / T_c^2 differ by a common factor, which `smooth` would otherwise have to be scaled
    with. Absent channels have the largest v_c, 1, as in MONAI's.
    """
    size, weights = _counted(compared, over)
    present = compared.wanted > 0
    least = torch.where(present, compared.wanted, torch.inf).amin(1, keepdim=True)
    weights = weights * torch.where(present, least / torch.where(present, compared.wanted, 1), 1).square()
    return (weights * compared.error).sum(1) / ((weights * size).sum(1) + smooth)


def jaccard(compared: Comparison, *, smooth: float, over: str) -> Tensor:
    """Return the mean over channels of E / (U + smooth), U = (P + T + E) / 2: soft 1 - IoU, (U - E) / U for binary t.

    With voxel weights it is the second half of the structure loss (Wei et al. 2020, "F3Net").
    """
    size, weights = _counted(compared, over)
    return _mean(compared.error / ((size + compared.error) / 2 + smooth), weights)


def _counted(compared: Comparison, over: str) -> tuple[Tensor, Tensor]:
    """Return P + T of each channel, or that of its complement, and what the channel counts, both (B, F)."""
    size = compared.predicted + compared.wanted
    counted = torch.ones_like(compared.wanted, dtype=torch.bool)
    if over == "present":
        present = compared.wanted > 0
        any_present = present.any(1, keepdim=True)
        size = torch.where(any_present, size, 2 * compared.voxels - compared.predicted)
        counted = present | ~any_present
    return size, compared.class_weights * counted


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (weights * values).sum(1) / weights.sum(1)
