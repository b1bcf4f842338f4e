"""One optimiser step: forward in mixed precision, loss in float32, backward, clip, update."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.device import indeterminism_told, memory_format, memory_told
from pipeline.errors import UserError
from pipeline.losses.loss import Loss
from pipeline.sampling.batch import Batch
from pipeline.training.change import WeightChange
from pipeline.training.compiled import compiled, compiling_told
from pipeline.training.distributed import NOBODY_ELSE, Ranks


class Drawn(NamedTuple):
    """Where a patch of a step came from: its case, and the label that its draw guarantees."""

    case: str
    label: int | None


@dataclass(frozen=True)
class StepResult:
    """What a step did, on all ranks together.

    losses, drawn: of the samples, this rank's first. grad_norm: before clipping; not finite in a step that float16's
    scaler left out, or that ended the run. prediction: raw logits (B, C, x, y, z) of the first output for this rank's
    samples, detached; None where there are none. update_share: length of the weights' change, divided by theirs; None
    where it was not measured.
    """

    loss: float
    parts: dict[str, float]
    grad_norm: float
    logits_min: float
    logits_max: float
    prediction: Tensor | None
    losses: tuple[float, ...]
    drawn: tuple[Drawn, ...] = ()
    update_share: float | None = None


class Diverged(UserError):
    """The loss or the gradients of a step are not finite. what: in few words; result: what is known of that step."""

    def __init__(self, what: str, result: StepResult) -> None:
        super().__init__(f"{what}; finite numbers were expected. What to do, the first process says.")
        self.what, self.result = what, result


TOO_LARGE = (
    "set net.checkpoint=auto, run each batch in parts with train.accumulate=2 or more, or take a smaller sample.batch "
    "or sample.patch_vox"
)


class Step:
    """The parts of an optimiser step that stay the same from one to the next."""

    def __init__(
        self, net: nn.Module, loss: Loss, optimiser: torch.optim.Optimizer, *,
        device: torch.device, amp: torch.dtype | None, clip: float, accumulate: int = 1, ranks: Ranks = NOBODY_ELSE,
        compile: bool = False, all_used: bool = True,
    ) -> None:  # fmt: skip
        self.net, self.loss, self.optimiser = net, loss, optimiser
        self.device, self.amp, self.clip, self.accumulate, self.ranks = device, amp, clip, accumulate, ranks
        self.joined_net = ranks.wrap(compiled(net) if compile else net, all_used=all_used)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16)

    def __call__(self, step: int, batch: Batch, lr: float, *, measured: bool = False) -> StepResult:
        """Update the weights once. measured: whether to tell how far they moved.

        Raises UserError, weights unchanged, where memory does not suffice and, as Diverged, where loss or gradients
        are not finite.
        In float16 gradients that overflow halve the scaler's factor, and the step is left out; they are an error once
        the factor is down to 1, which is what a scaler that is off has.
        """
        with memory_told(TOO_LARGE), compiling_told(), indeterminism_told():
            return self._update(step, batch, lr, measured)

    def _update(self, step: int, batch: Batch, lr: float, measured: bool) -> StepResult:
        self.net.train()
        self.optimiser.zero_grad(set_to_none=True)
        pieces = zip(batch.image.chunk(self.accumulate), batch.labels.chunk(self.accumulate), strict=True)
        signs: list[Tensor] = []
        predictions: list[Tensor] = []
        for number, (image, labels) in enumerate(pieces, 1):
            with nullcontext() if number == self.accumulate else self.ranks.apart(self.joined_net):
                logits, parts = self.forward(image, labels)
                losses = self.loss.total(parts)
                self.scaler.scale(losses.sum() / len(batch.labels)).backward()
            predictions.append((logits if isinstance(logits, Tensor) else logits[0]).detach())
            signs.append(signs_of(predictions[-1], parts, losses))
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        result = self._of_all_ranks(result_of(signs, self.loss.terms, torch.cat(predictions), batch, norm))
        if not math.isfinite(result.loss):
            raise diverged("the loss", step, replace(result, grad_norm=math.nan))
        if not math.isfinite(result.grad_norm) and self.scaler.get_scale() <= 1:
            raise diverged("the gradient norm", step, result)
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
            logits = self.joined_net(image)
        return logits, self.loss.parts(logits, labels.to(self.device, non_blocking=True))

    def _of_all_ranks(self, mine: StepResult) -> StepResult:
        """Return what the step did on every rank; each gets the same numbers, with its own samples first."""
        if self.ranks.count == 1:
            return mine
        told = [heard(facts) for facts in self.ranks.gather(asdict(replace(mine, prediction=None)))]
        mine_first = [told[self.ranks.number], *(each for n, each in enumerate(told) if n != self.ranks.number)]
        # Means are taken in the same order everywhere, so that all ranks agree on each bit.
        return StepResult(
            loss=fmean(each.loss for each in told),
            parts={name: fmean(each.parts[name] for each in told) for name in mine.parts},
            grad_norm=mine.grad_norm,  # of the mean of all gradients
            logits_min=float(np.min([each.logits_min for each in told])),  # NaN where one is, unlike Python's
            logits_max=float(np.max([each.logits_max for each in told])),
            prediction=mine.prediction,
            losses=tuple(loss for each in mine_first for loss in each.losses),
            drawn=tuple(drawn for each in mine_first for drawn in each.drawn),
        )


def heard(facts: dict[str, Any]) -> StepResult:
    """Return a result that a rank has told as JSON."""
    drawn = tuple(Drawn(*each) for each in facts["drawn"])
    return StepResult(**facts | {"losses": tuple(facts["losses"]), "drawn": drawn})


def signs_of(prediction: Tensor, parts: dict[str, Tensor], losses: Tensor) -> Tensor:
    """Return lowest and highest logit, the parts' means and each loss, float32 (2 + parts + B,), on their device."""
    means = [value.detach().mean() for value in parts.values()]
    low, high = torch.aminmax(prediction)
    return torch.cat([torch.stack([low.float(), high.float(), *means]), losses.detach()])


def result_of(
    signs: Sequence[Tensor], terms: Sequence[str], prediction: Tensor, batch: Batch, norm: Tensor
) -> StepResult:
    """Return what is known of a batch's samples from what `signs_of` gave for each of its parts, equally large.

    norm: of the gradients, a scalar on any device.
    """
    rows = torch.stack(list(signs))
    values = torch.cat([rows[:, 0].amin()[None], rows[:, 1].amax()[None], rows[:, 2 : 2 + len(terms)].mean(dim=0)])
    losses = rows[:, 2 + len(terms) :].flatten()
    known = torch.cat([norm.to(values)[None], values, losses.mean()[None], losses])
    grad_norm, low, high, *means = known.tolist()  # a GPU is waited for just once a step
    loss, *each = means[len(terms) :]
    drawn = tuple(Drawn(draw.case, draw.label) for draw in batch.draws)
    parts = dict(zip(terms, means, strict=False))
    return StepResult(loss, parts, grad_norm, low, high, prediction, tuple(each), drawn)


def diverged(what: str, step: int, result: StepResult) -> Diverged:
    """Return the error of a step whose loss or gradients are not finite."""
    value = result.loss if what == "the loss" else result.grad_norm
    return Diverged(f"step {step}: {what} is {value}", result)
