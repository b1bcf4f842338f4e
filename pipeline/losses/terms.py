"""The terms of a loss: closed forms on a Comparison, each a float32 value per sample, (B,), at least 0.

p is the probability, t the target (a class's share of the voxel: 0 or 1 at full resolution), sums run over the valid
voxels of one sample. A sample without a valid voxel gives 0, with gradient 0.
"""

import torch
from torch import Tensor

from pipeline.losses.comparison import Comparison


def dice(compared: Comparison, *, smooth: float, over: str) -> Tensor:
    """Return the weighted mean over foreground channels of 1 - (2 sum p t + smooth) / (sum p + sum t + smooth).

    For t in {0, 1} that equals sum |p - t| / (sum p + sum t + smooth), which is what is computed: it cannot be
    negative, and for shares it is smallest at p = t (Milletari et al. 2016; Wang et al. 2023, "Dice Semimetric
    Losses"). Channels are weighted by class weight; softmax's background is left to the other term.
    over: "all" channels, or those "present" in the sample. Where none is present each channel is scored by its
    complement, sum p / (sum (1 - p) + sum 1 + smooth): what is found falsely costs in proportion, whereas the formula
    above would be close to 1 with next to no gradient whatever p is.
    """
    counted = torch.ones_like(compared.wanted, dtype=torch.bool)
    size = compared.predicted + compared.wanted
    if over == "present":
        present = compared.wanted > 0
        any_present = present.any(1, keepdim=True)
        size = torch.where(any_present, size, 2 * compared.voxels - compared.predicted)
        counted = present | ~any_present
    weights = compared.class_weights * counted
    return (weights * compared.error / (size + smooth)).sum(1) / weights.sum(1)


def cross_entropy(compared: Comparison) -> Tensor:
    """Return the mean of -log(probability of the truth), weighted by class weight within the sample.

    softmax: sum_v w_y (-log p_y) / sum_v w_y, as torch's cross_entropy; for shares sum_c w_c t_c (-log p_c).
    sigmoid: sum_vc w_c (-t log p - (1 - t) log(1 - p)) / sum_vc w_c, as torch's binary_cross_entropy_with_logits.
    """
    return _weighted_mean(compared.surprise, compared.weight)


def focal(compared: Comparison, *, alpha: float, gamma: float) -> Tensor:
    """Return the mean of alpha_t (1 - q)^gamma (-log q), q the probability of the truth (Lin et al. 2017).

    alpha_t is alpha where the truth is foreground and 1 - alpha where it is background; it is not normalised. Class
    weights are, as in `cross_entropy`. MONAI's FocalLoss under softmax also divides by the number of channels.
    """
    wrong = -torch.expm1(-compared.surprise)
    # a power below 1 has no finite derivative at 0
    focus = wrong.clamp_min(torch.finfo(wrong.dtype).eps).pow(gamma)
    share = torch.where(compared.foreground, alpha, 1 - alpha)
    return _weighted_mean(share * focus * compared.surprise, compared.weight)


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over all but the first axis; 0 where the weights are all 0."""
    total = weight.flatten(1).sum(1)
    return (weight * values).flatten(1).sum(1) / torch.where(total > 0, total, 1)
