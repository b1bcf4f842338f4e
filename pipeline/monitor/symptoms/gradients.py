"""Gradients too large or too small to learn from, and a norm that sees too little."""

import math
from collections.abc import Sequence

from pipeline.log import listed
from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.symptoms.window import (
    STEPS,
    last,
    lower_lr,
    median,
    not_the_rate,
    records_of,
    steps_of,
    without_amp,
)
from pipeline.monitor.vitals import Vitals

EXPLODING = "exploding gradients"
VANISHING = "vanishing gradients"
NON_FINITE = "non-finite gradients"
BATCH_NORM = "batch norm over a batch of 1"

LARGE_NORM = 100.0  # healthy runs of all networks tried stay under 10
LARGE_STEPS = 10  # of the last 50: single steps may be large
SMALL_NORM = 1e-6  # healthy runs stay over 0.01, and over 1e-4 where all has been learnt
UNLEARNT_LOSS = 0.05  # below it there is nothing left to learn


def exploding(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Gradient norms, before clipping, over 100 again and again. Where one is not finite, float16's scaler leaves the
    step out, which is no disease.
    """
    records = last(history)
    large = [r.grad_norm for r in records if math.isfinite(r.grad_norm) and r.grad_norm > LARGE_NORM]
    if len(large) < LARGE_STEPS:
        return None
    evidence = (
        f"the gradient norm is over {LARGE_NORM:g} in {len(large)} of {records_of(records)}, {median(large):.3g} in "
        "the middle; below 10 is usual"
    )
    cure = (
        f"lower train.lr (it is {facts.lr:g}), give the network norms (UNet3d: net.options.norm=instance) and torch's "
        "own initial weights; train.clip only shortens what points nowhere"
    )
    return Finding(EXPLODING, evidence, cure)


def non_finite(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Gradients that ended the run though the loss was a number."""
    end = next(iter(history[-1:]), None)
    if end is None or not end.ended or math.isfinite(end.grad_norm) or not math.isfinite(end.loss):
        return None
    evidence = (
        f"the gradient norm is {end.grad_norm:g} in step {end.step}, which ended the run, with a loss of "
        f"{end.loss:.4g} and logits from {end.logits_min:.4g} to {end.logits_max:.4g}, on "
        f"{listed(sorted(set(end.cases)))}"
    )
    first = f"take {lower_lr(facts)}{without_amp(facts)}" if end.step > 1 else not_the_rate(facts)
    cure = (
        f"{first}, or look for what has no slope in a loss or network of your own, such as the root or the logarithm "
        "of 0"
    )
    return Finding(NON_FINITE, evidence, cure)


def vanishing(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Gradient norms near 0 while there is still something to learn."""
    records = last(history)
    if len(records) < STEPS:
        return None
    norm, loss = median(r.grad_norm for r in records), median(r.loss for r in records)
    if not (norm < SMALL_NORM and loss > UNLEARNT_LOSS):
        return None
    smallest, largest = min(r.logits_min for r in records), max(r.logits_max for r in records)
    evidence = (
        f"the gradient norm is {norm:.2g} in {steps_of(records)} while the loss stands at {loss:.3g}, logits from "
        f"{smallest:.3g} to {largest:.3g}"
    )
    cure = (
        "give the network norms and ReLU-like activations and its last layer small weights and a bias of 0; add a "
        "cross-entropy to a Dice (loss.name=auto), which has no gradient where outputs are saturated"
    )
    return Finding(VANISHING, evidence, cure)


def batch_norm(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """A batch norm that sees one sample at a time: it trains with that sample's statistics and predicts with others."""
    if not facts.batch_norm or facts.batch != 1:
        return None
    evidence = f"{facts.network} has batch norms, and each step shows them {facts.batch} sample"
    cure = "take sample.batch=2 or more, or an instance or group norm in net.options"
    return Finding(BATCH_NORM, evidence, cure)
