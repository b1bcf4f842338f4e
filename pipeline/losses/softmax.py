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
    surprise, error, predicted = _CompareSoftmax.apply(logits, labels)
    wanted = torch.stack([(labels == c).flatten(1).sum(1) for c in range(1, logits.shape[1])], 1)
    return surprise, error, predicted, wanted.to(logits.dtype)


class _CompareSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        valid = labels != IGNORE
        truth = torch.where(valid, labels, 0).long().unsqueeze(1)
        log_p = functional.log_softmax(logits, 1)
        surprise = torch.where(valid, -log_p.gather(1, truth).squeeze(1), 0)
        p = log_p.exp_()
        error, predicted = [], []
        for c in range(1, p.shape[1]):
            p_c = torch.where(valid, p[:, c], 0)
            predicted.append(p_c.flatten(1).sum(1))
            error.append(torch.where(labels == c, 1 - p_c, p_c).flatten(1).sum(1))
        ctx.save_for_backward(p, labels)
        return surprise, torch.stack(error, 1), torch.stack(predicted, 1)

    @staticmethod
    def backward(ctx: Any, d_surprise: Tensor, d_error: Tensor, d_predicted: Tensor) -> tuple[Tensor, None]:
        """With g_c the derivative by p_c: d logits_c = p_c (g_c - sum_k p_k g_k) + d_surprise (p_c - [y = c])."""
        p, labels = ctx.saved_tensors
        valid = labels != IGNORE
        d_surprise = torch.where(valid, d_surprise, 0)
        if_truth = (d_predicted - d_error)[:, :, None, None, None]
        if_other = (d_predicted + d_error)[:, :, None, None, None]
        gradient = torch.zeros_like(p)
        mean = torch.zeros_like(d_surprise)
        for c in range(1, p.shape[1]):
            g_c = torch.where(labels == c, if_truth[:, c - 1], if_other[:, c - 1]).mul_(valid)
            gradient[:, c] = g_c
            mean.addcmul_(p[:, c], g_c)
        gradient.sub_((mean - d_surprise).unsqueeze(1)).mul_(p)
        for c in range(p.shape[1]):
            gradient[:, c].sub_(torch.where(labels == c, d_surprise, 0))
        return gradient, None
