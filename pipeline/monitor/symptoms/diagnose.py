"""From what a run has recorded to what is wrong with it."""

from collections.abc import Callable, Iterable, Sequence

from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms import cases, data, gradients, loss, outputs, validation
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.vitals import Vitals

Rule = Callable[[Sequence[Vitals], RunFacts, Sequence[Checkup]], Finding | None]

# Causes before what follows from them, the surest first. Those of the first steps look at the vitals and the facts, the
# others at the checkups, too.
STEP_RULES: tuple[Rule, ...] = (
    data.labels_outside, data.labels_scaled, data.not_hu, outputs.probabilities, outputs.one_sign, loss.negative_loss,
    loss.lr_too_high, loss.non_finite_loss, gradients.exploding, gradients.non_finite, gradients.vanishing,
    gradients.batch_norm, data.starved,
)  # fmt: skip
CHECKUP_RULES: tuple[Rule, ...] = (
    validation.swapped, validation.lr_too_low, validation.all_background, validation.nothing_found,
    validation.never_predicted, validation.far_false_alarms, validation.over_fitting, cases.stands_out,
)  # fmt: skip

FIRST_STEPS = frozenset({
    data.LABELS_OUTSIDE, data.LABELS_SCALED, data.NOT_HU, outputs.PROBABILITIES, outputs.ONE_SIGN, loss.NEGATIVE_LOSS,
    loss.LR_TOO_HIGH, loss.NON_FINITE_LOSS, gradients.EXPLODING, gradients.NON_FINITE, gradients.VANISHING,
    gradients.BATCH_NORM, data.STARVED,
})  # fmt: skip
BROKEN_SCORES = frozenset({
    validation.LR_TOO_LOW, validation.ALL_BACKGROUND, validation.NOTHING_FOUND, validation.NEVER_PREDICTED,
    validation.FAR_FALSE_ALARMS, validation.OVER_FITTING, cases.STANDS_OUT,
})  # fmt: skip
BROKEN_GRADIENTS = frozenset({gradients.EXPLODING, gradients.VANISHING})
NOT_FINITE = frozenset({loss.NON_FINITE_LOSS, gradients.NON_FINITE})

# What follows from a disease is not told beside it: who mends the cause mends it too.
EXPLAINS: dict[str, frozenset[str]] = {
    data.LABELS_OUTSIDE: BROKEN_SCORES | NOT_FINITE | {loss.NEGATIVE_LOSS},
    data.LABELS_SCALED: BROKEN_SCORES | NOT_FINITE | {loss.NEGATIVE_LOSS},
    data.NOT_HU: BROKEN_SCORES,
    outputs.PROBABILITIES: BROKEN_SCORES | BROKEN_GRADIENTS | {outputs.ONE_SIGN},
    outputs.ONE_SIGN: BROKEN_SCORES | BROKEN_GRADIENTS,
    loss.NEGATIVE_LOSS: BROKEN_SCORES | BROKEN_GRADIENTS | {loss.LR_TOO_HIGH},
    loss.LR_TOO_HIGH: BROKEN_SCORES | BROKEN_GRADIENTS | NOT_FINITE,
    gradients.EXPLODING: BROKEN_SCORES | NOT_FINITE | {gradients.VANISHING},
    gradients.VANISHING: BROKEN_SCORES,
    gradients.BATCH_NORM: BROKEN_SCORES,
    validation.SWAPPED: frozenset({validation.OVER_FITTING, validation.NOTHING_FOUND}),
    validation.LR_TOO_LOW: BROKEN_SCORES - {validation.LR_TOO_LOW},
    validation.ALL_BACKGROUND: BROKEN_SCORES - {validation.ALL_BACKGROUND, validation.LR_TOO_LOW},
    validation.NOTHING_FOUND: BROKEN_SCORES - {validation.NOTHING_FOUND, validation.LR_TOO_LOW},
}


def diagnose(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup] = ()) -> list[Finding]:
    """Return what is wrong with a run, the surest first; nothing for a healthy one, or before there is evidence.

    history: in the order of steps, every one of the first 100 and then one in `train.log_every_steps`; it may begin
    in the middle of a run. checkups: in the order of steps. What follows from a disease that was found is left out.
    Rules look at the last records and checkups, so that a run is as ill as it is now.
    """
    return unexplained(found_by((*STEP_RULES, *CHECKUP_RULES), history, facts, checkups))


def found_by(
    rules: Iterable[Rule], history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]
) -> list[Finding]:
    """Return what some rules find, see `diagnose`, with what follows from something else among it."""
    return [finding for rule in rules if (finding := rule(history, facts, checkups))]


def unexplained(found: Sequence[Finding]) -> list[Finding]:
    """Return findings without those that follow from another one which is more than advice."""
    causes = [finding.name for finding in found if finding.fatal]
    explained = frozenset[str]().union(*(EXPLAINS.get(name, frozenset()) for name in causes))
    return [finding for finding in found if finding.name not in explained]


def blame(found: Iterable[Finding]) -> Finding | None:
    """Return the finding that is likeliest the reason why a run ended by an error, None where there is none.

    found: the surest first, as `diagnose` gives them. Scores and advice end no run.
    """
    return next((finding for finding in found if finding.fatal and finding.name in FIRST_STEPS), None)
