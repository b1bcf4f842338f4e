"""Endings that no linear layer has: what they let through shows in the range of the logits."""

from collections.abc import Sequence

from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.symptoms.window import STEPS, entropies, ignorance, last, median, steps_of
from pipeline.monitor.vitals import Vitals

ONE_SIGN = "an ending that lets only one sign through"
PROBABILITIES = "probabilities fed as logits"

NEAR_IGNORANCE = 0.01  # of ln 2 or ln C: every healthy run begins there and leaves it within some ten steps
LEAK = 0.03  # of the largest logit: a LeakyReLU's usual slope is 0.01, a linear layer's two sides are of one order
CONSTANT = 0.02  # logits: a network's first outputs are spread ten times wider
MOVED = 0.05  # of the weights' length, in all steps together: before that a healthy run stands still too
OPEN_SHARE = 0.8  # of the records in which probabilities lie above 0: a ReLU's smallest output is exactly 0 instead

CURE = "take the final activation off: net.strip_final_activation=true, or delete it from the network's last line"


def one_sign(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Outputs of one sign: exactly cut off at 0, all but cut off, or of one sign or constant at the loss of ignorance.

    An extreme that is exactly 0 in 50 steps is a ReLU's; a linear layer's is any number.
    """
    records = last(history)
    if len(records) < STEPS:
        return None
    found = _cut_off(records) or _leaking(records, facts) or _ignorant(records, facts)
    if found is None:
        return None
    smallest, largest = min(r.logits_min for r in records), max(r.logits_max for r in records)
    evidence = f"{found} in {steps_of(records)}, logits from {smallest:.3g} to {largest:.3g}"
    return Finding(ONE_SIGN, evidence, CURE)


def probabilities(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Logits that never leave [0, 1]; a linear layer's may begin there, but do not stay once the weights move."""
    records = last(history)
    if len(records) < STEPS or not all(r.logits_min >= 0 and r.logits_max <= 1 for r in records):
        return None
    above_0 = sum(r.logits_min > 0 for r in records) / len(records)
    reaches_1 = sum(r.logits_max == 1 for r in records) / len(records)
    if not ((above_0 >= OPEN_SHARE and _moved(records)) or reaches_1 >= OPEN_SHARE):
        return None
    smallest, largest = min(r.logits_min for r in records), max(r.logits_max for r in records)
    what = "the loss applies softmax once more" if facts.head == "softmax" else "the loss applies sigmoid once more"
    evidence = f"logits between {smallest:.3g} and {largest:.3g} in {steps_of(records)}, never outside 0 to 1; {what}"
    return Finding(PROBABILITIES, evidence, CURE)


def _cut_off(records: Sequence[Vitals]) -> str | None:
    """Say which side of 0 is cut off exactly, as by a ReLU."""
    if all(r.logits_min == 0 for r in records):
        return "the smallest logit is exactly 0"
    if all(r.logits_max == 0 for r in records):
        return "the largest logit is exactly 0"
    return None


def _leaking(records: Sequence[Vitals], facts: RunFacts) -> str | None:
    """Say that what is below 0 is a small part of what is above, as behind a LeakyReLU.

    Where the loss is far worse than ignorance, something else keeps the outputs there.
    """
    known = entropies(records, facts)
    if not known or median(known) > 2 * ignorance(facts):
        return None
    if all(0 < -r.logits_min <= LEAK * r.logits_max for r in records):
        return f"below 0 the logits reach less than {LEAK:.0%} of what they reach above"
    return None


def _ignorant(records: Sequence[Vitals], facts: RunFacts) -> str | None:
    """Say that the cross-entropy stands at ln 2 or ln C while the weights move and outputs are of one sign."""
    known, level = entropies(records, facts), ignorance(facts)
    if not known or any(abs(value - level) > NEAR_IGNORANCE * level for value in known) or not _moved(records):
        return None
    name = "ln 2" if facts.head != "softmax" else f"ln {facts.channels}"
    stands = f"the cross-entropy stands at {median(known):.4f} ({name} is {level:.4f})"
    if all(r.logits_max - r.logits_min <= CONSTANT for r in records):
        return f"{stands}, outputs are constant"
    for side, one in (("above", [r.logits_min >= 0 for r in records]), ("below", [r.logits_max <= 0 for r in records])):
        if all(one):
            return f"{stands}, all outputs are {side} 0"
    reach = median(-r.logits_min / r.logits_max for r in records if r.logits_max > 0)
    if 0 < reach <= LEAK:
        return f"{stands}, below 0 the logits mostly reach {reach:.1%} of what they reach above"
    return None


def _moved(records: Sequence[Vitals]) -> bool:
    """True where the weights have changed enough for a loss to leave where it began; so too where none is measured."""
    shares = [r.update_share for r in records if r.update_share is not None]
    return not shares or sum(shares) / len(shares) * len(records) >= MOVED
