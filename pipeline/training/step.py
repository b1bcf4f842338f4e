"""One optimiser step: forward in mixed precision, loss in float32, backward, clip, update."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pipeline.device import memory_format, memory_told
from pipeline.errors import UserError
from pipeline.losses.loss import Loss
from pipeline.sampling.batch import Batch
from pipeline.training.change import WeightChange


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    losses: of the samples. grad_norm: before clipping; not finite in a step that float16's scaler left out, or that
    ended the run. prediction: raw logits (B, C, x, y, z) of the first output, detached; None where there are none.
    update_share: length of the weights' change, divided by theirs; None where it was not measured.
    """

    loss: float
    parts: dict[str, float]
    grad_norm: float
    logits_min: float
    logits_max: float
    prediction: Tensor | None
    losses: tuple[float, ...]
    update_share: float | None = None


class Diverged(UserError):
    """The loss or the gradients of a step are not finite. result: what is known of that step."""

    def __init__(self, sentence: str, result: StepResult) -> None:
        super().__init__(sentence)
        self.result = result


TOO_LARGE = "take a smaller sample.batch or sample.patch_vox, or set net.checkpoint=blocks"


class Step:
    """The parts of an optimiser step that stay the same from one to the next."""

    def __init__(
        self, net: nn.Module, loss: Loss, optimiser: torch.optim.Optimizer, *,
        device: torch.device, amp: torch.dtype | None, clip: float,
    ) -> None:  # fmt: skip
        self.net, self.loss, self.optimiser = net, loss, optimiser
        self.device, self.amp, self.clip = device, amp, clip
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16)

    def __call__(self, step: int, batch: Batch, lr: float, *, measured: bool = False) -> StepResult:
        """Update the weights once. measured: whether to tell how far they moved.

        Raises UserError, weights unchanged, where memory does not suffice and, as Diverged, where loss or gradients
        are not finite.
        In float16 gradients that overflow halve the scaler's factor, and the step is left out; they are an error once
        the factor is down to 1, which is what a scaler that is off has.
        """
        with memory_told(TOO_LARGE):
            return self._update(step, batch, lr, measured)

    def _update(self, step: int, batch: Batch, lr: float, measured: bool) -> StepResult:
        self.net.train()
        self.optimiser.zero_grad(set_to_none=True)
        logits, parts = self.forward(batch.image, batch.labels)
        losses = self.loss.total(parts)
        loss = losses.mean()
        result = describe(logits, parts, losses)
        if not torch.isfinite(loss):
            raise diverged("the loss", step, batch, result)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        grad_norm = float(nn.utils.clip_grad_norm_(self.net.parameters(), self.clip))
        result = replace(result, grad_norm=grad_norm)
        if not math.isfinite(grad_norm) and self.scaler.get_scale() <= 1:
            raise diverged("the gradient norm", step, batch, result)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        change = WeightChange(self.net) if measured else None
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return result if change is None else replace(result, update_share=change.share())

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor | list[Tensor], dict[str, Tensor]]:
        """Return the network's outputs and the loss's parts, (B,) each."""
        image = image.to(self.device, memory_format=memory_format(self.device), non_blocking=True)
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
            logits = self.net(image)
        return logits, self.loss.parts(logits, labels.to(self.device, non_blocking=True))


def describe(logits: Tensor | list[Tensor], parts: dict[str, Tensor], losses: Tensor) -> StepResult:
    """Return what is known of a step once its loss is."""
    prediction = (logits if isinstance(logits, Tensor) else logits[0]).detach()
    low, high = (float(value) for value in torch.aminmax(prediction))
    means = {name: float(value.detach().mean()) for name, value in parts.items()}
    each = losses.detach()
    return StepResult(float(each.mean()), means, math.nan, low, high, prediction, tuple(each.tolist()))


def diverged(what: str, step: int, batch: Batch, result: StepResult) -> Diverged:
    """Return the error of a step whose loss or gradients are not finite."""
    value = result.loss if what == "the loss" else result.grad_norm
    cases = ", ".join(sorted({draw.case for draw in batch.draws}))
    logits = f"{result.logits_min:.4g} to {result.logits_max:.4g}"
    sentence = (
        f"step {step}: {what} is {value}, with logits from {logits}, on cases {cases}; finite numbers were expected. "
        "Lower train.lr, set train.amp=off, or look at the images and labels of these cases (a changed config needs "
        "train.restart=true)."
    )
    return Diverged(sentence, result)
