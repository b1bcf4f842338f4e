"""What the rules look at: the last records, and the entropy of a network that knows nothing."""

import math
import statistics
from collections.abc import Iterable, Sequence

from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.vitals import Vitals

PATIENCE_STEPS, PATIENCE_SHARE = 200, 0.02  # of a run, the larger: until then many healthy ones find nothing
LATEST = 20  # checkups whose training cases are pooled
USUAL_LR = {"adamw": 3e-3, "sgd": 1e-2}  # by optimiser: what train.lr says of itself
STEPS = 50  # what a short run shows before it has cost anything; every one of a run's first steps is recorded


def last(history: Sequence[Vitals], most: int = STEPS) -> Sequence[Vitals]:
    """Return the last records, at most `most`."""
    return history[-most:]


def entropies(records: Iterable[Vitals], facts: RunFacts) -> list[float]:
    """Return the cross-entropy of each record; empty where the loss has none or a record lacks it."""
    found = [record.parts.get(facts.entropy, math.nan) if facts.entropy else math.nan for record in records]
    return [] if any(math.isnan(value) for value in found) else found


def ignorance(facts: RunFacts) -> float:
    """Return the cross-entropy of outputs that are 0 everywhere: ln C under softmax, else ln 2."""
    return math.log(max(2, facts.channels) if facts.head == "softmax" else 2)


def median(values: Iterable[float | None]) -> float:
    """Return the median of the values that were measured and are numbers, NaN where there is none."""
    numbers = [value for value in values if value is not None and not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan


def mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are numbers, NaN where there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.fmean(numbers) if numbers else math.nan


def update_share(records: Iterable[Vitals]) -> float:
    """Return the largest measured share by which a step changed the weights, NaN where none was measured."""
    shares = [record.update_share for record in records if record.update_share is not None]
    return max(shares, default=math.nan)


def later(checkups: Sequence[Checkup]) -> Sequence[Checkup]:
    """Return the checkups of the later half of the steps so far, at most LATEST: before, the network had to learn."""
    return [checkup for checkup in checkups[-LATEST:] if checkup.step > checkups[-1].step / 2]


def patience_steps(facts: RunFacts) -> float:
    """Return the steps until which a healthy run may predict nothing."""
    return max(PATIENCE_STEPS, PATIENCE_SHARE * (facts.steps or 0))


def without_amp(facts: RunFacts) -> str:
    """Return what to add to a cure where the run is in mixed precision."""
    return f", set train.amp=off (it was {facts.amp})" if facts.amp else ""


def lower_lr(facts: RunFacts) -> str:
    """Return the rate to take in place of one that is too high: a tenth of it, and no more than is usual."""
    usual = USUAL_LR[facts.optimiser]
    rate = min(facts.lr / 10, usual)
    return f"train.lr={rate:g} or less (it was {facts.lr:g}; {usual:g} is usual with {facts.optimiser})"


def not_the_rate(facts: RunFacts) -> str:
    """Return where to look when the first step fails: the weights have not moved yet."""
    start = ", the weights of train.start_from" if facts.warm else ""
    return (
        "no weight has moved yet, so that it is not the rate: look at the images and labels of these cases (doctor "
        f"data), at the network (doctor net){start}, and at the weights of the loss (loss.class_weights)"
        f"{without_amp(facts)}"
    )


def records_of(records: Sequence[Vitals]) -> str:
    """Return how many records there are and of which steps, in words."""
    return f"{len(records)} records of {steps_of(records)}"


def steps_of(records: Sequence[Vitals]) -> str:
    """Return which steps records are of, in words."""
    return f"steps {records[0].step} to {records[-1].step}"
