"""What reaches the network: labels, intensities, and whether they come in time."""

import math
from collections.abc import Callable, Sequence

from pipeline.log import listed
from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.symptoms.window import STEPS, last, median, steps_of
from pipeline.monitor.vitals import Vitals

LABELS_OUTSIDE = "labels outside the head's set"
LABELS_SCALED = "labels scaled to fractions"
NOT_HU = "input that is not HU"
STARVED = "a starved loop"

FLAT_STD = 0.05  # of standardised intensities, usually about 1: all of it lies on one side of the window
WAITED_SHARE = 0.5  # of the time: at half of it, training would be twice as fast
STARTING_STEPS = 10  # of a process, in which workers start and files are read for the first time
BLOCK = 10  # records: with workers most steps of a starved loop wait for nothing, and one in so many waits for all
MANY = 0.1  # of the cases: fewer are odd ones out
NAMED = 3  # cases in a sentence


def labels_outside(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Whole numbers, or not even numbers, among the labels that are no class."""
    return _strange_labels(
        history, facts, LABELS_OUTSIDE, lambda value: not 0 < value < 1,
        "list these values under labels, or merge them into a class; labels.ignore takes a value that is not to count",
    )  # fmt: skip


def labels_scaled(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Fractions among the labels, such as 5/255."""
    return _strange_labels(
        history, facts, LABELS_SCALED, lambda value: 0 < value < 1,
        "keep labels whole numbers to the end: read them without rescaling (255 levels to 0..1 turns class 5 into "
        "0.0196) and without linear interpolation",
    )  # fmt: skip


def _strange_labels(
    history: Sequence[Vitals], facts: RunFacts, name: str, is_so: Callable[[float], bool], cure: str
) -> Finding | None:
    records = [record for record in last(history) if any(is_so(value) for value in record.strange_labels)]
    if not records:
        return None
    values = sorted({value for record in records for value in record.strange_labels if is_so(value)})[:NAMED]
    cases = sorted({case for record in records for case in record.cases})
    shown = ", ".join(f"{value:.3g}" for value in values)
    which = ", ".join(facts.classes)
    evidence = (
        f"labels of step {records[-1].step} have the values {shown}, and the classes are 0 to {len(facts.classes)} "
        f"(background, {which}); seen with cases {listed(cases)}"
    )
    return Finding(name, evidence, cure)


def not_hu(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Cases whose histogram says so, or patches that are all but constant behind the window."""
    cure = "give CTs in Hounsfield units (air -1000, water 0), neither rescaled nor as pictures; doctor data tells why"
    if facts.not_hu:
        told = "; ".join(f"{case}: {why}" for case, why in list(facts.not_hu.items())[:NAMED])
        of_all = f" of {facts.cases}" if facts.cases else ""
        evidence = f"{len(facts.not_hu)}{of_all} training cases do not look like HU ({told})"
        return Finding(NOT_HU, evidence, cure, fatal=len(facts.not_hu) >= MANY * facts.cases)
    records = last(history)
    if len(records) < STEPS:
        return None
    spread = median(record.image_std for record in records)
    if not spread <= FLAT_STD:
        return None
    evidence = (
        f"standardised intensities spread by {spread:.2g} in {steps_of(records)}, about 1 is usual: all voxels look "
        "alike"
    )
    return Finding(NOT_HU, evidence, f"{cure}; intensity.window_hu must hold the tissue that matters")


def starved(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Steps that mostly wait for their batch: in the middle of several blocks, so that no single long wait decides."""
    records = [record for record in last(history) if (record.since_start or record.step) > STARTING_STEPS]
    if len(records) < STEPS - STARTING_STEPS:
        return None
    share = median(_waited(records[first : first + BLOCK]) for first in range(0, len(records), BLOCK))
    if not share >= WAITED_SHARE:
        return None
    evidence = f"{share:.0%} of the time went by waiting for batches in {steps_of(records)}"
    cure = (
        "raise sample.workers, keep the work folder on a local disk, or take a cheaper augment.preset; more cores help "
        "where workers already use all of them"
    )
    return Finding(STARVED, evidence, cure, fatal=False)


def _waited(records: Sequence[Vitals]) -> float:
    """Return the share of the time of some steps that went by waiting, NaN where they took none."""
    waited, spent = (sum(getattr(record, name) for record in records) for name in ("wait_s", "step_s"))
    return waited / spent if spent > 0 else math.nan
