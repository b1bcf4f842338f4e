"""What every term of a loss is computed from: how far the probabilities are from the target, voxel by voxel."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.head import Head
from pipeline.labels import IGNORE
from pipeline.losses.softmax import compare_softmax


class VoxelWeight(Protocol):
    """What voxels count, from the target: see `losses.contour`."""

    def __call__(self, shares: Tensor, valid: Tensor, *, exclusive: bool) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Comparison:
    """Logits of one output against labels. All tensors are float32 unless said; B is the batch, F foreground channels.

    surprise: -log of the probability given to the truth, at least 0, (B, K, x, y, z). K is 1, or the number of
        possible truths where a coarse voxel holds several of them.
    weight: what each surprise counts, of the same shape: class weight x share of the voxel; 0 where ignored. Where
        voxels are weighted, that counts here and in all sums.
    foreground: bool, broadcasts to the same shape: the truth that the surprise is about is foreground.
    error: sum over valid voxels of |probability - target|, (B, F).
    predicted, wanted: sums of probability and of target over the same voxels, (B, F).
    voxels: number of valid voxels, (B, 1), or (B, F) where they are weighted by channel.
    class_weights: of the foreground channels, (F,).
    """

    surprise: Tensor
    weight: Tensor
    foreground: Tensor
    error: Tensor
    predicted: Tensor
    wanted: Tensor
    voxels: Tensor
    class_weights: Tensor


def compare(
    logits: Tensor, labels: Tensor, head: Head, class_weights: Tensor, weigh: VoxelWeight | None = None
) -> Comparison:
    """Compare logits with labels under a head.

    logits: float32 (B, C, x, y, z); at another resolution than the labels these are averaged to class shares.
    labels: uint8 (B, X, Y, Z) class indices, 255 where ignored. class_weights: float32 (C,).
    weigh: what voxels count, from the target at the resolution of the logits; 1 each by default.
    """
    shape_vox = (logits.shape[2], logits.shape[3], logits.shape[4])
    full = shape_vox == labels.shape[1:]
    if head.kind == "softmax" and full and weigh is None:
        return _softmax_of_labels(logits, labels, class_weights, None)
    shares, valid = head.target(labels, shape_vox)  # shares are 0 where ignored
    counts = valid.float()
    if weigh is not None:
        counts = counts * weigh(shares, valid, exclusive=head.kind == "softmax")
    if head.kind == "softmax":
        if full:
            return _softmax_of_labels(logits, labels, class_weights, counts)
        return _softmax_of_shares(logits, shares, counts, class_weights)
    return (_sigmoid_of_labels if full else _sigmoid_of_shares)(logits, shares, counts, class_weights)


def _softmax_of_labels(logits: Tensor, labels: Tensor, class_weights: Tensor, counts: Tensor | None) -> Comparison:
    """Compare at full resolution. counts: (B, 1, x, y, z), 0 where ignored; 1 and 0 by default."""
    surprise, error, predicted, wanted = compare_softmax(logits, labels, None if counts is None else counts[:, 0])
    weight_of_label = class_weights.new_zeros(IGNORE + 1)  # stays 0 where ignored
    weight_of_label[: len(class_weights)] = class_weights
    weight = weight_of_label[labels.long()].unsqueeze(1)
    if counts is None:
        voxels = (labels != IGNORE).flatten(1).sum(1, keepdim=True)
    else:
        weight, voxels = weight * counts, counts.flatten(1).sum(1, keepdim=True)
    foreground = (labels > 0).unsqueeze(1)
    sums = (error, predicted, wanted, voxels)
    return Comparison(surprise.unsqueeze(1), weight, foreground, *sums, class_weights[1:])


def _softmax_of_shares(logits: Tensor, shares: Tensor, counts: Tensor, class_weights: Tensor) -> Comparison:
    surprise = -functional.log_softmax(logits, 1)
    sums = _sums(torch.exp(-surprise[:, 1:]), shares[:, 1:], counts)
    foreground = _by_channel(torch.arange(logits.shape[1], device=logits.device)) > 0
    weight = _by_channel(class_weights) * shares * counts
    return Comparison(surprise, weight, foreground, *sums, class_weights[1:])


def _sigmoid_of_labels(logits: Tensor, target: Tensor, counts: Tensor, class_weights: Tensor) -> Comparison:
    foreground = target > 0
    surprise = functional.softplus(torch.where(foreground, -logits, logits))
    sums = _sums(torch.sigmoid(logits), target, counts)
    weight = _by_channel(class_weights) * counts
    return Comparison(surprise, weight, foreground, *sums, class_weights)


def _sigmoid_of_shares(logits: Tensor, shares: Tensor, counts: Tensor, class_weights: Tensor) -> Comparison:
    sums = _sums(torch.sigmoid(logits), shares, counts)
    surprise = functional.softplus(torch.cat([-logits, logits], 1))
    counts = counts.expand_as(shares)
    truth = torch.cat([shares * counts, (1 - shares) * counts], 1)
    weight = _by_channel(class_weights.repeat(2)) * truth
    foreground = _by_channel(torch.arange(surprise.shape[1], device=logits.device)) < logits.shape[1]
    return Comparison(surprise, weight, foreground, *sums, class_weights)


def _by_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1, 1)


def _sums(probability: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return error, predicted, wanted and voxels of a Comparison."""
    error = ((probability - target).abs() * counts).flatten(2).sum(2)
    predicted, wanted = (probability * counts).flatten(2).sum(2), (target * counts).flatten(2).sum(2)
    return error, predicted, wanted, counts.flatten(2).sum(2)
