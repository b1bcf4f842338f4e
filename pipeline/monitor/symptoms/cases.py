"""Training cases that stand out from the others: where errors of labels sit."""

import math
from collections.abc import Sequence
from typing import Literal

from pipeline.log import listed
from pipeline.monitor.checkup import Checkup, TrainingCase
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.symptoms.window import later, median
from pipeline.monitor.vitals import Vitals

STANDS_OUT = "a training case that stands out"

ENOUGH_PATCHES = 8  # for a mean loss that single patches do not decide
ENOUGH_MEASURED = 4  # for a mean Dice, which is to say only that a case of high loss is not fitted either
ENOUGH_CASES = 4  # for a median that the case itself does not decide
DEVIATIONS = 6.0  # robust ones: of a thousand cases of a normal law none lies so far off
SPREAD_LEAST = 0.05  # of the median: few cases may lie close together by chance
LOSS_TIMES = 1.5  # the median, so that only what is gross is told
DICE_BELOW = 0.25  # the median


def stands_out(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Cases whose patches, in the later half of the run, cost far more than those of the others and fit worse.

    A robust outlier test: deviations from the median, over the median deviation times 1.4826 (Iglewicz and Hoaglin
    1993).
    """
    if len(checkups) < 2:
        return None
    pooled = pool(later(checkups)).items()
    cases = {name: c for name, c in pooled if c.patches >= ENOUGH_PATCHES and c.measured >= ENOUGH_MEASURED}
    if len(cases) < ENOUGH_CASES:
        return None
    usual, usual_dice = median(case.loss for case in cases.values()), median(case.dice for case in cases.values())
    deviation = 1.4826 * median(abs(case.loss - usual) for case in cases.values())
    limit = max(LOSS_TIMES * usual, usual + DEVIATIONS * max(deviation, SPREAD_LEAST * usual))
    odd = {
        name: case
        for name, case in cases.items()
        if case.loss > limit and case.dice is not None and case.dice <= usual_dice - DICE_BELOW
    }
    if not odd:
        return None
    told = listed(
        f"{name} {case.loss:.3g} over {case.patches} patches (Dice {case.dice:.2f} over {case.measured})"
        for name, case in odd.items()
    )
    cure = (
        "look at label and image of such a case: a label that is shifted, mirrored or of another patient does this; "
        f"doctor data checks it, data.exclude=[{next(iter(odd))}] leaves it out"
    )
    evidence = f"mean loss of {told}; the median case has {usual:.3g}, Dice {usual_dice:.2f}"
    return Finding(STANDS_OUT, evidence, cure, fatal=False)


def worst_cases(
    checkups: Sequence[Checkup], by: Literal["loss", "dice"] = "loss", most: int = 5
) -> list[tuple[str, TrainingCase]]:
    """Return the training cases, at most `most` of them, of the highest loss or of the lowest Dice, the worst first.

    checkups: in the order of steps. Those of the later half of the steps are pooled, so that what the network had still
    to learn does not count. Of equal losses that of the lower Dice comes first, and a loss that is no number before
    all; by Dice there are only cases that it was measured on. Empty where no case was drawn.
    """
    pooled = pool(later(checkups))
    if by == "dice":
        pooled = {name: case for name, case in pooled.items() if case.dice is not None}
    return sorted(pooled.items(), key=lambda item: _goodness(item[1], by))[:most]


def pool(checkups: Sequence[Checkup]) -> dict[str, TrainingCase]:
    """Return each training case's patches of several validations together, means weighted by what they are of."""
    found: dict[str, list[TrainingCase]] = {}
    for checkup in checkups:
        for name, case in checkup.training.items():
            if case.patches:
                found.setdefault(name, []).append(case)
    return {name: _joined(parts) for name, parts in found.items()}


def _joined(parts: Sequence[TrainingCase]) -> TrainingCase:
    patches = sum(part.patches for part in parts)
    loss = sum(part.loss * part.patches for part in parts) / patches
    measured = sum(part.measured for part in parts)
    dice_sum = sum(part.dice * part.measured for part in parts if part.dice is not None)
    return TrainingCase(patches, loss, dice_sum / measured if measured else None, measured)


def _goodness(case: TrainingCase, by: Literal["loss", "dice"]) -> tuple[float, float]:
    """Return what the worst case has least of; a loss that is no number is the worst."""
    cheapness = -math.inf if math.isnan(case.loss) else -case.loss
    dice = 1.0 if case.dice is None else case.dice
    return (cheapness, dice) if by == "loss" else (dice, cheapness)
