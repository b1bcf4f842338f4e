"""What is wrong with one case, judged from one reading of it."""

from collections.abc import Callable, Iterator

from pipeline.config.check import SIDE, names_side, other_side
from pipeline.health.examination import Examination
from pipeline.health.hounsfield import shares_of, verdict_on
from pipeline.health.problem import Problem, warning
from pipeline.labels import IGNORE, Labels

FEW_VOX = 10  # a class of fewer in a case is a slip of the brush more often than anatomy
ALL_FOREGROUND = 0.99  # of the annotated voxels: a hundredth of background is too little to tell a class from
SIDE_MM = 10.0  # that a left organ lies to the right of the right one; less may be a bent spine
TURNED_DEGREES = 30.0  # of a grid against the patient: by default training turns patches by no more
SPACING_MM = (0.1, 20.0)  # of clinical CT; a header beyond it is in other units


def check_intensities(found: Examination, labels: Labels) -> Iterator[Problem]:
    """Tell values that are not HU, or not all of them."""
    verdict = verdict_on(shares_of(found.fingerprint.histogram, found.extremes), found.extremes)
    if verdict is not None:
        yield Problem(verdict.severity, found.case.name, verdict.what, verdict.found, verdict.cure)


def check_grid(found: Examination, labels: Labels) -> Iterator[Problem]:
    """Tell spacings that no CT has, and a grid that is turned against the patient."""
    spacing_mm = found.fingerprint.spacing_mm
    if min(spacing_mm) < SPACING_MM[0] or max(spacing_mm) > SPACING_MM[1]:
        listed = " x ".join(f"{spacing:.3g}" for spacing in spacing_mm)
        cure = f"set the spacing in the header, in mm; expected {SPACING_MM[0]:g} to {SPACING_MM[1]:g}"
        yield warning(found.case.name, "implausible spacing", f"{listed} mm", cure)
    if found.turned_degrees > TURNED_DEGREES:
        evidence = f"its axes are turned by {found.turned_degrees:.0f} degrees against the patient's"
        cure = "resample CT and label along the patient's axes: here voxels are never rotated"
        yield warning(found.case.name, "turned grid", evidence, cure)


def check_label(found: Examination, labels: Labels) -> Iterator[Problem]:
    """Tell a label map that is empty or full, classes of few voxels, and labels outside the body."""
    if not found.labelled:
        return
    name, counts = found.case.name, found.fingerprint.counts
    annotated = sum(count for index, count in counts.items() if index != IGNORE)
    foreground = annotated - counts.get(0, 0)
    if not foreground:
        cure = "look at it: it is right only where none of the classes is in the CT"
        yield warning(name, "empty label", "no voxel belongs to any class", cure)
    elif foreground >= ALL_FOREGROUND * annotated:
        cure = "look at it: background may have the value of a class; list that value under labels.background"
        yield warning(name, "no background", f"{foreground / annotated:.1%} of the voxels belong to a class", cure)
    for index, label in enumerate(labels.names, 1):
        if 0 < counts.get(index, 0) < FEW_VOX:
            cure = "look at it: erase what is a slip of the brush"
            yield warning(name, "few voxels", f"voxels of {label}: {counts[index]}", cure)
    if found.cut_off_vox:
        evidence = f"{found.cut_off_vox} labelled voxels lie outside the box around the body"
        yield warning(name, "label in the air", evidence, "look at it: prepare cuts these voxels off")


def check_sides(found: Examination, labels: Labels) -> Iterator[Problem]:
    """Tell a class called left that lies to the right of the one called right."""
    for left in filter(is_left, labels.names):
        right = other_side(left)
        if right not in labels.names:
            continue
        left_mm, right_mm = (found.centre_x_mm.get(labels.index(label)) for label in (left, right))
        # x grows towards the patient's right: where a side is missing there is nothing to compare.
        if left_mm is not None and right_mm is not None and left_mm - right_mm > SIDE_MM:
            evidence = f"{left} lies {left_mm - right_mm:.0f} mm to the right of {right}"
            cure = "look at it: exchange the two values under `labels`, or mend the x axis in the headers"
            yield warning(found.case.name, "left and right exchanged", evidence, cure)


def is_left(label: str) -> bool:
    """Tell whether a class name says left: LeftLung, lung_left, Lung_L, "L kidney"."""
    side = SIDE.search(label)
    return names_side(label) and side is not None and side[0].lower().startswith("l")


CHECKS_OF_A_CASE: tuple[Callable[[Examination, Labels], Iterator[Problem]], ...] = (
    check_intensities,
    check_grid,
    check_label,
    check_sides,
)
