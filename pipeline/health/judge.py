"""What is wrong with a data set, judged from one reading of each of its cases."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from pipeline.dataset.cases import Case
from pipeline.health.case import CHECKS_OF_A_CASE, FEW_VOX
from pipeline.health.examination import Examination
from pipeline.health.problem import Problem, error, note, warning
from pipeline.labels import Labels
from pipeline.volume.body import AIR_BELOW_HU

VOLUME_CHANGE = 0.2  # of a class from its CT's grid to the training grid, as a share of the former
SPACING_RATIO = 2.0  # to the median: prepare has to make up, or to throw away, every other voxel
EXTENT_RATIO = 4.0  # to the median: another part of the body, a localiser, or a scan that was cut short
SPREAD_FACTOR = 3.0  # times further from the median than four fifths of the cases keep to it
USUAL_SHARE = 0.8
USUAL_FROM_CASES = 5  # fewer do not show what is usual
IN_AIR_LEAST = 0.5  # of a class in a case: more in air than out of it is no slip at the skin or at an airway
USUAL_IN_AIR = 0.1  # median of the class over the cases; at most 0.02 in head and neck, lungs and airways are above
SPLITS = ("train", "validation", "test")  # what is in two of them is to leave the one that comes first


def judge(examinations: Sequence[Examination], cases: Sequence[Case], labels: Labels, folds: int) -> list[Problem]:
    """Return what is wrong with cases and with the data set as a whole.

    examinations: of those of `cases` that could be read.
    folds: parts that the training cases are split into, where the data set itself names none for validation.
    """
    problems = [problem for check in CHECKS_OF_A_CASE for found in examinations for problem in check(found, labels)]
    not_hu = {problem.case for problem in problems if problem.severity == "error"}  # where air is not known
    problems += check_air([found for found in examinations if found.case.name not in not_hu], labels)
    problems += check_volumes(examinations, labels)
    problems += check_classes(examinations, labels)
    problems += check_folds(examinations, labels, 1 if any(case.split == "validation" for case in cases) else folds)
    problems += check_splits(cases)
    problems += check_duplicates(examinations)
    problems += check_geometry(examinations)
    problems += check_orientation(examinations)
    return problems


def check_air(examinations: Sequence[Examination], labels: Labels) -> Iterator[Problem]:
    """Tell classes that lie in air in a case, and not in most of the cases that have them.

    Of one case or two the median is never that far below: they do not show what is usual. A class of few voxels is
    told of as such.
    """
    for index, label in enumerate(labels.names, 1):
        holding = [found for found in examinations if found.fingerprint.counts.get(index, 0) >= FEW_VOX]
        usual = np.median([found.air_shares[index] for found in holding]) if holding else 0.0
        for found in holding:
            share = found.air_shares[index]
            if share > IN_AIR_LEAST and usual < USUAL_IN_AIR:
                evidence = f"{label}: {share:.0%} lie below {AIR_BELOW_HU:g} HU, where {usual:.0%} is usual"
                cure = "look at it: a label map that is shifted, mirrored, or of another CT?"
                yield warning(found.case.name, "class in the air", evidence, cure)


def check_volumes(examinations: Sequence[Examination], labels: Labels) -> Iterator[Problem]:
    """Tell classes whose volume changes by over a fifth on the training grid, the largest change first.

    A class of few voxels is told of as such.
    """
    changes = [
        (after / before - 1, before, after, labels.names[index - 1], found.case.name)
        for found in examinations
        for index, (before, after) in found.volumes_mm3.items()
        if found.fingerprint.counts[index] >= FEW_VOX
    ]
    for change, before, after, label, name in sorted(changes, key=lambda each: -abs(each[0])):
        if abs(change) > VOLUME_CHANGE:
            evidence = f"{label}: {before:.0f} mm3 become {after:.0f} ({change:+.0%})"
            cure = "lower prepare.spacing_mm, or accept that predictions of the class are off by that"
            yield warning(name, "volume on the training grid", evidence, cure)


def check_classes(examinations: Sequence[Examination], labels: Labels) -> Iterator[Problem]:
    """Tell the classes that no training case has."""
    training = [found for found in examinations if found.case.split == "train"]
    holding = {index for found in training for index in found.fingerprint.counts}
    lacking = [label for index, label in enumerate(labels.names, 1) if index not in holding]
    if training and lacking:
        evidence = f"no voxel in {len(training)} training cases of {', '.join(lacking)}"
        cure = "mend the value under `labels`, or take the class out: training refuses one without a case"
        yield error("", "class without a case", evidence, cure)


def check_folds(examinations: Sequence[Examination], labels: Labels, folds: int) -> Iterator[Problem]:
    """Tell that there are fewer patients than folds, or the classes that fewer patients have."""
    training = [found for found in examinations if found.case.split == "train"]
    patients = {found.case.patient for found in training}
    if training and len(patients) < folds:
        cure = "lower data.folds, or hold nothing out with train.fold=all"
        yield warning("", "few patients", f"{len(patients)} to train with, and data.folds={folds}", cure)
        return
    holding = {
        label: len({found.case.patient for found in training if found.fingerprint.counts.get(index)})
        for index, label in enumerate(labels.names, 1)
    }
    rare = [f"{label} in {count}" for label, count in holding.items() if 0 < count < folds]
    if rare:
        evidence = f"of {len(patients)} patients to train with {', '.join(rare)}"
        cure = f"bring more, or lower data.folds={folds}: some folds hold nothing of it out"
        yield warning("", "class in few patients", evidence, cure)


def check_splits(cases: Sequence[Case]) -> Iterator[Problem]:
    """Tell that there is nothing to train with, and patients in two splits, naming the cases that are to leave."""
    if cases and not any(case.is_for_training for case in cases):
        evidence = f"all {len(cases)} cases are for testing"
        yield error("", "no training case", evidence, "say which cases are for training, see docs/data.md")
    last_of = {case.patient: case for case in sorted(cases, key=_split_order)}
    for case in cases:
        other = last_of[case.patient]
        if case.split != other.split:
            evidence = f"{case.patient} has {case.name} in {case.split} and {other.name} in {other.split}"
            yield error(case.name, "patient in two splits", evidence, "keep all scans of a patient in one split")


def check_duplicates(examinations: Sequence[Examination]) -> Iterator[Problem]:
    """Tell scans that are there twice, voxel by voxel; in two splits they are a leak."""
    ordered = sorted(examinations, key=lambda found: (found.image_hash, _split_order(found.case)))
    for _, same in groupby(ordered, key=lambda found: found.image_hash):
        *others, kept = (found.case for found in same)
        for case in others:
            evidence = f"{case.name} ({case.split}) has the voxels of {kept.name} ({kept.split})"
            if case.split != kept.split:
                yield error(case.name, "scan in two splits", evidence, "leave one of the two out")
            elif case.patient != kept.patient:
                cure = "leave one of the two out, or give them the same patient: they may come into different folds"
                yield warning(case.name, "same scan twice", evidence, cure)
            else:
                yield note(case.name, "same scan twice", evidence, "leave one of the two out: it counts double")


def check_geometry(examinations: Sequence[Examination]) -> Iterator[Problem]:
    """Tell cases with a spacing far from that of the others, and those that are much larger or smaller."""
    spacings_mm = np.array([found.fingerprint.spacing_mm for found in examinations])
    extents_mm = np.array([found.fingerprint.shape_vox for found in examinations]) * spacings_mm
    cure = "look at the CT: slices may be missing, or axes or units be wrong in the header"
    odd = outliers(spacings_mm, SPACING_RATIO)
    for position, axis in odd:
        usual_mm = np.median(spacings_mm[:, axis])
        evidence = f"{spacings_mm[position, axis]:.3g} mm along {'xyz'[axis]}, where {usual_mm:.3g} is usual"
        yield warning(examinations[position].case.name, "unusual spacing", evidence, cure)
    cure = "look at the CT: another part of the body, a localiser, or a scan that was cut short?"
    for position, axis in outliers(extents_mm, EXTENT_RATIO):
        if (position, axis) not in odd:  # which would be the reason
            usual_mm = np.median(extents_mm[:, axis])
            evidence = f"{extents_mm[position, axis]:.0f} mm along {'xyz'[axis]}, where {usual_mm:.0f} is usual"
            yield warning(examinations[position].case.name, "unusual size", evidence, cure)


def check_orientation(examinations: Sequence[Examination]) -> Iterator[Problem]:
    """Tell that files have their axes in different orders, which does no harm here."""
    counts = Counter(found.fingerprint.orientation for found in examinations)
    if len(counts) > 1:
        evidence = ", ".join(f"{axes} in {count}" for axes, count in counts.most_common())
        yield note("", "mixed orientation", evidence, "none needed: every case is read in RAS+ order")


def outliers(values: np.ndarray, least_ratio: float) -> list[tuple[int, int]]:
    """Return (row, column) of what is far from the median of its column.

    values: (n, k), above 0, compared by their ratios. An outlier is at least `least_ratio` times larger or smaller
    than the median, and more than three times further from it than four fifths of the column are. None below 5 rows.
    """
    if len(values) < USUAL_FROM_CASES:
        return []
    logs = np.log(values)
    apart = np.abs(logs - np.median(logs, axis=0))
    usual = np.quantile(apart, USUAL_SHARE, axis=0, method="lower")
    far = (apart > SPREAD_FACTOR * usual) & (apart >= np.log(least_ratio) - 1e-6)
    return [(int(row), int(column)) for row, column in np.argwhere(far)]


def _split_order(case: Case) -> int:
    return SPLITS.index(case.split)
