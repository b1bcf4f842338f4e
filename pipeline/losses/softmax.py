"""Softmax against integer labels, in one step with its gradient in closed form.

Neither a one-hot target nor a copy of the probabilities is held: the volume is gone through in slabs, and for the
gradient the probabilities are computed from the logits once more. So the gradient itself is all the memory that it
takes.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pipeline.labels import IGNORE

SLAB_BYTES = {"cpu": 2**21, "other": 2**27}  # of float32 logits: what a CPU's cache holds, what keeps a GPU busy


def compare_softmax(
    logits: Tensor, labels: Tensor, voxel_weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return surprise, error, predicted and wanted of softmax probabilities p against labels y.

    logits: float (B, C, x, y, z); labels: uint8 (B, x, y, z), 0 to C - 1, or 255 where ignored.
    voxel_weight: what a voxel counts in the three sums, of the shape of labels; 1 by default.
    surprise: -log p_y, (B, x, y, z), 0 where ignored. The others are (B, C - 1), sums over valid voxels for each
    class c but background: |p_c - [y = c]|, p_c, [y = c].
    """
    counts = (labels != IGNORE).to(logits.dtype)
    return _CompareSoftmax.apply(logits, labels, counts if voxel_weight is None else counts * voxel_weight)


class _CompareSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        surprise = torch.empty_like(counts)
        error, predicted = logits.new_zeros(2, logits.shape[0], logits.shape[1])
        for b, x in _slabs(logits):
            log_p, truth = torch.log_softmax(logits[b, :, x], 0), _truth(labels[b, x])
            surprise[b, x] = -log_p.gather(0, truth)[0] * (labels[b, x] != IGNORE)
            p = log_p.exp_().mul_(counts[b, x])
            predicted[b] += p.flatten(1).sum(1)
            missed = counts[b, x] * -torch.expm1(-surprise[b, x])
            error[b] += p.scatter_(0, truth, missed.unsqueeze(0)).flatten(1).sum(1)
        sums = counts.new_zeros(len(counts), IGNORE + 1, dtype=torch.float64)  # float32 ends counting at 2^24
        sums.scatter_add_(1, labels.flatten(1).long(), counts.flatten(1).double())
        wanted = sums[:, 1 : logits.shape[1]].to(logits.dtype)
        ctx.save_for_backward(logits, labels, counts)
        ctx.mark_non_differentiable(wanted)
        return surprise, error[:, 1:], predicted[:, 1:], wanted

    @staticmethod
    def backward(
        ctx: Any, d_surprise: Tensor, d_error: Tensor, d_predicted: Tensor, _: Tensor
    ) -> tuple[Tensor, None, None]:
        """With g_c the derivative by p_c: d logits_c = p_c (g_c - sum_k p_k g_k) + d_surprise (p_c - [y = c])."""
        logits, labels, counts = ctx.saved_tensors
        background = d_error.new_zeros(len(d_error), 1)
        if_other = torch.cat([background, d_predicted + d_error], 1)
        if_truth = torch.cat([background, d_predicted - d_error], 1)
        gradient = torch.empty_like(logits)
        for b, x in _slabs(logits):
            p, truth = torch.softmax(logits[b, :, x], 0), _truth(labels[b, x])
            q, other, g_truth = p.gather(0, truth)[0], if_other[b], if_truth[b][truth[0]]
            mean = torch.tensordot(other, p, 1) + q * (g_truth - other[truth[0]])
            count, surprise = counts[b, x], d_surprise[b, x] * (labels[b, x] != IGNORE)
            at_truth = q * (count * (g_truth - mean) + surprise) - surprise
            by_class = torch.sub(other[:, None, None, None], mean).mul_(count).add_(surprise).mul_(p)
            gradient[b, :, x] = by_class.scatter_(0, truth, at_truth[None])
        return gradient, None, None


def _slabs(logits: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield sample and slice along x of parts of about SLAB_BYTES."""
    samples, channels, length, *plane = logits.shape
    slab_bytes = SLAB_BYTES["cpu" if logits.device.type == "cpu" else "other"]
    step = max(1, slab_bytes // (4 * channels * plane[0] * plane[1]))
    yield from ((b, slice(x, x + step)) for b in range(samples) for x in range(0, length, step))


def _truth(labels: Tensor) -> Tensor:
    """Return the channel of the truth to gather by, int64 (1, x, y, z); background where ignored."""
    return torch.where(labels == IGNORE, 0, labels).long().unsqueeze(0)
