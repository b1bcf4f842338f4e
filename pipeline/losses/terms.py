"""Terms voxel by voxel: closed forms on a Comparison, each a float32 value per sample, (B,), at least 0.

p is the probability, t the target (a class's share of the voxel: 0 or 1 at full resolution), sums run over the valid
voxels of one sample. A sample without a valid voxel gives 0, with gradient 0; an absent class is one that no voxel has.
"""

import math

import torch
from torch import Tensor

from pipeline.losses.comparison import Comparison


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


def top_cross_entropy(compared: Comparison, *, fraction: float) -> Tensor:
    """Return `cross_entropy` over the hardest voxels alone (Wu et al. 2016).

    fraction: the part of the sample's valid voxels that counts, rounded up; a voxel is as hard as its weighted
    cross-entropy, summed over the channels of a sigmoid. At 1 it is `cross_entropy`.
    """
    cost = (compared.weight * compared.surprise).sum(1).flatten(1)
    weight = compared.weight.expand_as(compared.surprise).sum(1).flatten(1)
    hardest, where = cost.topk(math.ceil(fraction * cost.shape[1]), 1)
    rank = torch.arange(hardest.shape[1], device=cost.device)
    counted = rank < torch.ceil(fraction * compared.voxels)
    total = (weight.gather(1, where) * counted).sum(1)
    return (hardest * counted).sum(1) / torch.where(total > 0, total, 1)


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over all but the first axis; 0 where the weights are all 0."""
    weight = weight.expand_as(values)
    total = weight.flatten(1).sum(1)
    return (weight * values).flatten(1).sum(1) / torch.where(total > 0, total, 1)
