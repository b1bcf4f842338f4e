"""What every term of a loss is computed from: how far the probabilities are from the target, voxel by voxel."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.head import Head
from pipeline.labels import IGNORE
from pipeline.losses.softmax import compare_softmax


@dataclass(frozen=True, eq=False)
class Comparison:
    """Logits of one output against labels. All tensors are float32 unless said; B is the batch, F foreground channels.

    surprise: -log of the probability given to the truth, at least 0, (B, K, x, y, z). K is 1, or the number of
        possible truths where a coarse voxel holds several of them.
    weight: what each surprise counts, of the same shape: class weight x share of the voxel; 0 where ignored.
    foreground: bool, broadcasts to the same shape: the truth that the surprise is about is foreground.
    error: sum over valid voxels of |probability - target|, (B, F).
    predicted, wanted: sums of probability and of target over the same voxels, (B, F).
    voxels: number of valid voxels, (B, 1).
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


def compare(logits: Tensor, labels: Tensor, head: Head, class_weights: Tensor) -> Comparison:
    """Compare logits with labels under a head.

    logits: float32 (B, C, x, y, z); at another resolution than the labels these are averaged to class shares.
    labels: uint8 (B, X, Y, Z) class indices, 255 where ignored. class_weights: float32 (C,).
    """
    shape_vox = (logits.shape[2], logits.shape[3], logits.shape[4])
    if head.kind == "softmax" and shape_vox == labels.shape[1:]:
        return _softmax_of_labels(logits, labels, class_weights)
    shares, valid = head.target(labels, shape_vox)  # shares are 0 where ignored
    if head.kind == "softmax":
        return _softmax_of_shares(logits, shares, valid, class_weights)
    if shape_vox == labels.shape[1:]:
        return _sigmoid_of_labels(logits, shares, valid, class_weights)
    return _sigmoid_of_shares(logits, shares, valid, class_weights)


def _softmax_of_labels(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Comparison:
    surprise, error, predicted, wanted = compare_softmax(logits, labels)
    weight_of_label = class_weights.new_zeros(256)  # stays 0 where ignored
    weight_of_label[: len(class_weights)] = class_weights
    weight = weight_of_label[labels.long()]
    foreground = (labels > 0).unsqueeze(1)
    voxels = (labels != IGNORE).flatten(1).sum(1, keepdim=True)
    sums = (error, predicted, wanted, voxels)
    return Comparison(surprise.unsqueeze(1), weight.unsqueeze(1), foreground, *sums, class_weights[1:])


def _softmax_of_shares(logits: Tensor, shares: Tensor, valid: Tensor, class_weights: Tensor) -> Comparison:
    surprise = -functional.log_softmax(logits, 1)
    sums = _sums(torch.exp(-surprise[:, 1:]), shares[:, 1:], valid)
    foreground = _by_channel(torch.arange(logits.shape[1], device=logits.device)) > 0
    weight = _by_channel(class_weights) * shares
    return Comparison(surprise, weight, foreground, *sums, class_weights[1:])


def _sigmoid_of_labels(logits: Tensor, target: Tensor, valid: Tensor, class_weights: Tensor) -> Comparison:
    foreground = target > 0
    surprise = functional.softplus(torch.where(foreground, -logits, logits))
    sums = _sums(torch.sigmoid(logits), target, valid)
    weight = _by_channel(class_weights) * valid.float()
    return Comparison(surprise, weight, foreground, *sums, class_weights)


def _sigmoid_of_shares(logits: Tensor, shares: Tensor, valid: Tensor, class_weights: Tensor) -> Comparison:
    sums = _sums(torch.sigmoid(logits), shares, valid)
    surprise = functional.softplus(torch.cat([-logits, logits], 1))
    weight = _by_channel(class_weights.repeat(2)) * torch.cat([shares, valid.float() - shares], 1)
    foreground = _by_channel(torch.arange(surprise.shape[1], device=logits.device)) < logits.shape[1]
    return Comparison(surprise, weight, foreground, *sums, class_weights)


def _by_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1, 1)


def _sums(probability: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return error, predicted, wanted and voxels of a Comparison; the target is 0 where ignored."""
    probability = probability * valid.float()
    error = (probability - target).abs().flatten(2).sum(2)
    predicted, wanted = probability.flatten(2).sum(2), target.flatten(2).sum(2)
    return error, predicted, wanted, valid.flatten(1).sum(1, keepdim=True)
