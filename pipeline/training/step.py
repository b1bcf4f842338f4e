"""One optimiser step: forward in mixed precision, loss in float32, backward, clip, update."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.device import memory_format, memory_told
from pipeline.errors import UserError
from pipeline.losses.loss import Loss
from pipeline.sampling.batch import Batch


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    prediction: raw logits (B, C, x, y, z) of the first output, detached. grad_norm: before clipping; not finite in a
    step that float16's scaler left out.
    """

    loss: float
    parts: dict[str, float]
    grad_norm: float
    logits_min: float
    logits_max: float
    prediction: Tensor


class Diverged(UserError):
    """The loss or the gradients of a step are not finite."""


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

    def __call__(self, step: int, batch: Batch, lr: float) -> StepResult:
        """Update the weights once.

        Raises UserError, weights unchanged, where memory does not suffice and, as Diverged, where loss or gradients
        are not finite.
        In float16 gradients that overflow halve the scaler's factor, and the step is left out; they are an error once
        the factor is down to 1, which is what a scaler that is off has.
        """
        with memory_told(TOO_LARGE):
            return self._update(step, batch, lr)

    def _update(self, step: int, batch: Batch, lr: float) -> StepResult:
        self.net.train()
        self.optimiser.zero_grad(set_to_none=True)
        logits, parts = self.forward(batch.image, batch.labels)
        loss = self.loss.total(parts).mean()
        outputs = [logits] if isinstance(logits, Tensor) else logits
        prediction = outputs[0].detach()
        low, high = (float(value) for value in torch.aminmax(prediction))
        if not torch.isfinite(loss):
            raise self._diverged("the loss", float(loss.detach()), step, batch, low, high)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        grad_norm = float(nn.utils.clip_grad_norm_(self.net.parameters(), self.clip))
        if not math.isfinite(grad_norm) and self.scaler.get_scale() <= 1:
            raise self._diverged("the gradient norm", grad_norm, step, batch, low, high)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.scaler.step(self.optimiser)
        self.scaler.update()
        means = {name: float(value.detach().mean()) for name, value in parts.items()}
        return StepResult(float(loss.detach()), means, grad_norm, low, high, prediction)

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor | list[Tensor], dict[str, Tensor]]:
        """Return the network's outputs and the loss's parts, (B,) each."""
        image = image.to(self.device, memory_format=memory_format(self.device), non_blocking=True)
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
            logits = self.net(image)
        return logits, self.loss.parts(logits, labels.to(self.device, non_blocking=True))

    def _diverged(self, what: str, value: float, step: int, batch: Batch, low: float, high: float) -> Diverged:
        cases = ", ".join(sorted({draw.case for draw in batch.draws}))
        return Diverged(
            f"step {step}: {what} is {value}, with logits from {low:.4g} to {high:.4g}, on cases {cases}; finite "
            "numbers were expected. Lower train.lr, set train.amp=off, or look at the images and labels of these cases "
            "(a changed config needs train.restart=true)."
        )
