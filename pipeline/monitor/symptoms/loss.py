"""A loss that no mask can give, or that is worse than that of a network which knows nothing."""

import math
from collections.abc import Sequence

from pipeline.log import listed
from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.symptoms.window import (
    STEPS,
    entropies,
    ignorance,
    last,
    lower_lr,
    median,
    not_the_rate,
    records_of,
    steps_of,
    update_share,
    without_amp,
)
from pipeline.monitor.vitals import Vitals

NEGATIVE_LOSS = "negative loss"
NON_FINITE_LOSS = "non-finite loss"
LR_TOO_HIGH = "learning rate far too high"

BELOW_0 = -1e-4  # rounding of a sum in float32 is far smaller
LATE = 20  # records that the loss is judged by: single steps may be bad
FAR_OVER_IGNORANCE = 2.0  # times ln C: whoever knows nothing pays ln C once, a healthy start up to 1.5 times
RAN_OFF = 1000.0  # logits: healthy ones stay under 100, and beyond 88 float32 knows only 0 and 1
WEIGHTS_REPLACED = 0.5  # of the weights' length in one step; healthy steps change less than a tenth
REPLACING_STEPS = 2  # the first step of weights that begin near 0 may be large
WEIGHTS_CHANGED = 0.05  # in one step: below it a high loss is not the rate's


def negative_loss(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """A loss below 0, or a part of it: both are at least 0 for targets between 0 and 1."""
    records = last(history)
    for record in records:
        for name, value in {"loss": record.loss, **record.parts}.items():
            if value < BELOW_0:
                below = sum(r.loss < BELOW_0 or any(v < BELOW_0 for v in r.parts.values()) for r in records)
                evidence = f"{name} is {value:.4g} in step {record.step}, and {below} of {records_of(records)} are"
                cure = (
                    "the target is not within 0 and 1: give a Dice one-hot masks and no class indices or grey levels, "
                    "or take a loss of the project, such as loss.name=dice_ce"
                )
                return Finding(NEGATIVE_LOSS, f"{evidence} below 0", cure)
    return None


def non_finite_loss(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """A loss that is not a number or infinite, with what it came from."""
    bad = [record for record in last(history) if not math.isfinite(record.loss)]
    if not bad:
        return None
    first = bad[0]
    evidence = (
        f"the loss is {first.loss:g} in step {first.step}, with logits from {first.logits_min:.4g} to "
        f"{first.logits_max:.4g}, on {listed(sorted(set(first.cases)))}"
    )
    if first.image_std is not None and not math.isfinite(first.image_std):
        return Finding(
            NON_FINITE_LOSS, f"{evidence}; the images of this batch are not finite themselves",
            "look at these cases' images: doctor data names what is wrong, data.exclude leaves a case out",
        )  # fmt: skip
    cure = not_the_rate(facts)
    if first.step > 1:
        cure = f"take {lower_lr(facts)}{without_amp(facts)}, or look at these cases"
    return Finding(NON_FINITE_LOSS, evidence, cure)


def lr_too_high(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Steps that replace the weights, logits that have run off, or a loss far over ignorance after the warm-up."""
    records = last(history)
    evidence = _weights_replaced(records) or _worse_than_ignorance(records, facts) or _ran_off(records)
    if evidence is None:
        return None
    return Finding(LR_TOO_HIGH, evidence, f"take {lower_lr(facts)}")


def _weights_replaced(records: Sequence[Vitals]) -> str | None:
    large = [r for r in records if r.update_share is not None and r.update_share >= WEIGHTS_REPLACED]
    if len(large) < REPLACING_STEPS:
        return None
    steps = listed((f"{r.step} ({r.update_share:.0%})" for r in large), 3)
    return f"single steps changed the weights by over {WEIGHTS_REPLACED:.0%} of their length: step {steps}"


def _worse_than_ignorance(records: Sequence[Vitals], facts: RunFacts) -> str | None:
    late = [record for record in records[-LATE:] if record.step > facts.warmup_steps]
    known = entropies(late, facts)
    if len(records) < STEPS or len(late) < LATE or not known or _still(records):
        return None
    level = ignorance(facts)
    if not median(known) > FAR_OVER_IGNORANCE * level:
        return None
    found = f"the cross-entropy is {median(known):.3g} in {steps_of(late)}"
    return f"{found}, and {level:.3g} for a network that knows nothing"


def _ran_off(records: Sequence[Vitals]) -> str | None:
    late = records[-LATE:]
    if len(records) < STEPS or _still(records):
        return None
    farthest = median(max(-record.logits_min, record.logits_max) for record in late)
    if not farthest > RAN_OFF:
        return None
    return f"logits have run off to {farthest:.3g} in {steps_of(late)}; beyond 100 nothing is learnt from them"


def _still(records: Sequence[Vitals]) -> bool:
    """True where the weights are known to change little, so that they were bad from the beginning."""
    return update_share(records) < WEIGHTS_CHANGED
