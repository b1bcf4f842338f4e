"""From what a run has recorded to what is wrong with it."""

from collections.abc import Callable, Sequence

from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms import cases, data, gradients, loss, outputs, validation
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.vitals import Vitals

Rule = Callable[[Sequence[Vitals], RunFacts, Sequence[Checkup]], Finding | None]

# Causes before what follows from them, the surest first.
RULES: tuple[Rule, ...] = (
    data.labels_outside, data.labels_scaled, data.not_hu, outputs.probabilities, outputs.one_sign, loss.negative_loss,
    loss.lr_too_high, loss.non_finite_loss, gradients.exploding, gradients.vanishing, gradients.batch_norm,
    data.starved, validation.swapped, validation.lr_too_low, validation.all_background, validation.never_predicted,
    validation.far_false_alarms, validation.over_fitting, cases.stands_out,
)  # fmt: skip

BROKEN_SCORES = frozenset({
    validation.LR_TOO_LOW, validation.ALL_BACKGROUND, validation.NEVER_PREDICTED, validation.FAR_FALSE_ALARMS,
    validation.OVER_FITTING, cases.STANDS_OUT,
})  # fmt: skip
BROKEN_GRADIENTS = frozenset({gradients.EXPLODING, gradients.VANISHING})

# What follows from a disease is not told beside it: who mends the cause mends it too.
EXPLAINS: dict[str, frozenset[str]] = {
    data.LABELS_OUTSIDE: BROKEN_SCORES | {loss.NEGATIVE_LOSS, loss.NON_FINITE_LOSS},
    data.LABELS_SCALED: BROKEN_SCORES | {loss.NEGATIVE_LOSS, loss.NON_FINITE_LOSS},
    data.NOT_HU: BROKEN_SCORES,
    outputs.PROBABILITIES: BROKEN_SCORES | BROKEN_GRADIENTS | {outputs.ONE_SIGN},
    outputs.ONE_SIGN: BROKEN_SCORES | BROKEN_GRADIENTS,
    loss.NEGATIVE_LOSS: BROKEN_SCORES | BROKEN_GRADIENTS | {loss.LR_TOO_HIGH},
    loss.LR_TOO_HIGH: BROKEN_SCORES | BROKEN_GRADIENTS | {loss.NON_FINITE_LOSS},
    gradients.EXPLODING: BROKEN_SCORES | {gradients.VANISHING, loss.NON_FINITE_LOSS},
    gradients.VANISHING: BROKEN_SCORES,
    gradients.BATCH_NORM: BROKEN_SCORES,
    validation.SWAPPED: frozenset({validation.OVER_FITTING}),
    validation.LR_TOO_LOW: BROKEN_SCORES - {validation.LR_TOO_LOW},
    validation.ALL_BACKGROUND: BROKEN_SCORES - {validation.ALL_BACKGROUND, validation.LR_TOO_LOW},
}


def diagnose(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup] = ()) -> list[Finding]:
    """Return what is wrong with a run, the surest first; nothing for a healthy one, or before there is evidence.

    history: in the order of steps, every one of the first 100 and then one in `train.log_every_steps`; it may begin
    in the middle of a run. checkups: in the order of steps. What follows from a disease that was found is left out.
    Rules look at the last records and checkups, so that a run is as ill as it is now.
    """
    found = [finding for rule in RULES if (finding := rule(history, facts, checkups))]
    explained = frozenset[str]().union(*(EXPLAINS.get(finding.name, frozenset()) for finding in found))
    return [finding for finding in found if finding.name not in explained]
