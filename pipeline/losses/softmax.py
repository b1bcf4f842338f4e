"""Softmax against integer labels, in one step with its gradient in closed form.

Neither a one-hot target nor a copy of the logits per term is held: the probabilities are all that is kept for the
gradient.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.labels import IGNORE


def compare_softmax(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return surprise, error, predicted and wanted of softmax probabilities p against labels y.

    logits: float (B, C, x, y, z); labels: uint8 (B, x, y, z), 0 to C - 1, or 255 where ignored.
    surprise: -log p_y, (B, x, y, z), 0 where ignored. The others are (B, C - 1), sums over valid voxels for each
    class c but background: |p_c - [y = c]|, p_c, [y = c].
    """
    return _CompareSoftmax.apply(logits, labels)


class _CompareSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        valid = (labels != IGNORE).unsqueeze(1)
        truth = labels.long().unsqueeze(1).mul_(valid)
        log_p = functional.log_softmax(logits, 1)
        surprise = (-log_p.gather(1, truth) * valid).squeeze(1)
        p = log_p.exp_().mul_(valid.to(logits.dtype))  # 0 where ignored, so that no sum below needs a mask
        error, wanted = [], []
        for c in range(1, p.shape[1]):
            is_c = labels == c
            error.append(torch.where(is_c, 1 - p[:, c], p[:, c]).flatten(1).sum(1))
            wanted.append(is_c.flatten(1).sum(1))
        counts = torch.stack(wanted, 1).to(logits.dtype)
        ctx.save_for_backward(p, labels)
        ctx.mark_non_differentiable(counts)
        return surprise, torch.stack(error, 1), p[:, 1:].flatten(2).sum(2), counts

    @staticmethod
    def backward(ctx: Any, d_surprise: Tensor, d_error: Tensor, d_predicted: Tensor, _: Tensor) -> tuple[Tensor, None]:
        """With g_c the derivative by p_c: d logits_c = p_c (g_c - sum_k p_k g_k) + d_surprise (p_c - [y = c])."""
        p, labels = ctx.saved_tensors
        if_truth = (d_predicted - d_error)[:, :, None, None, None]
        if_other = (d_predicted + d_error)[:, :, None, None, None]
        gradient = torch.zeros_like(p)
        mean = torch.zeros_like(d_surprise)
        for c in range(1, p.shape[1]):
            gradient[:, c] = torch.where(labels == c, if_truth[:, c - 1], if_other[:, c - 1])
            mean.addcmul_(p[:, c], gradient[:, c])
        gradient.sub_((mean - d_surprise).unsqueeze(1)).mul_(p)
        zero = p.new_zeros(())
        for c in range(p.shape[1]):
            gradient[:, c].sub_(torch.where(labels == c, d_surprise, zero))
        return gradient, None
