"""The spacing of the training grid: as fine as the data, as coarse as the patch asks for, and never too coarse."""

from collections.abc import Iterable
from math import floor, inf, log10, prod

import numpy as np

from pipeline.log import by
from pipeline.planning.choice import Choice, many
from pipeline.planning.evidence import ClassEvidence, Evidence
from pipeline.volume.grid import Float3

ANISOTROPIC = 3.0  # from this ratio of spacings, and of sizes, on
FINE_PERCENT = 10
FEWEST_VOX = 64  # a block of 4 x 4 x 4: less, and a 3 x 3 x 3 kernel sees no inside


def natural_spacing(evidence: Evidence) -> Choice:
    """Return the spacing that the data have: the median of each axis (nnU-Net; Isensee 2021).

    Where one axis is 3 times coarser than both others and has 3 times fewer voxels, it gets the 10th percentile of its
    spacings, but no less than the others': the median would blur the cases with thin slices, and they tell the most.
    """
    median = np.median(evidence.spacings_mm, axis=0)
    reason = f"the median of {many(evidence.cases, 'case')}"
    coarse = max(range(3), key=lambda axis: median[axis])
    others = [axis for axis in range(3) if axis != coarse]
    sizes = np.median(evidence.shapes_vox, axis=0)
    thick = median[coarse] >= ANISOTROPIC * median[others].max()
    few = sizes[coarse] * ANISOTROPIC <= sizes[others].min()
    if thick and few:
        fine = float(np.percentile(evidence.spacings_mm[:, coarse], FINE_PERCENT))
        median[coarse] = max(fine, median[others].max())
        reason += f"; {'xyz'[coarse]}, the axis of thick slices, takes the {FINE_PERCENT}th percentile of its spacings"
    return Choice(rounded(median, 4), reason)


def coarsest_voxel_mm3(classes: Iterable[ClassEvidence]) -> tuple[float, str]:
    """Return the largest voxel on which every class keeps 64 voxels in its small cases, and the class that asks for it.

    Infinity and "" where no case has any class.
    """
    limits = [(each.small_mm3 / FEWEST_VOX, each.name) for each in classes if each.cases]
    return min(limits, default=(inf, ""))


def coarsened(spacing_mm: Float3, voxel_mm3: float) -> Float3:
    """Return the spacing made coarser up to this volume of a voxel, the finest axes first; as it is where it is so.

    Every axis is raised to the same floor, so that a grid becomes isotropic before its coarsest axis changes. The floor
    is rounded down to three digits: a voxel is never larger than asked for.
    """
    if prod(spacing_mm) >= voxel_mm3:
        return spacing_mm
    coarsest_first = sorted(spacing_mm, reverse=True)
    for kept in range(3):  # how many of the coarsest axes stay as they are
        floor_mm = (voxel_mm3 / prod(coarsest_first[:kept])) ** (1 / (3 - kept))
        if all(axis_mm >= floor_mm for axis_mm in coarsest_first[:kept]) and coarsest_first[kept] <= floor_mm:
            x, y, z = (max(axis_mm, rounded_down(floor_mm)) for axis_mm in spacing_mm)
            return x, y, z
    return spacing_mm


def fitted_spacing(evidence: Evidence, natural: Choice, patch_voxels: float, covered: float) -> Choice:
    """Return the spacing at which a patch of so many voxels covers this share of the median body.

    Where the natural spacing has that already it stays. No class may fall under 64 voxels in its small cases.
    """
    body_mm3 = prod(evidence.median_body_vox(natural.value)) * prod(natural.value)
    wished_mm3 = body_mm3 * covered / patch_voxels
    limit_mm3, name = coarsest_voxel_mm3(evidence.classes)
    spacing_mm = coarsened(natural.value, min(wished_mm3, limit_mm3))
    if spacing_mm == natural.value:
        if wished_mm3 <= max(limit_mm3, prod(natural.value)):  # or so little coarser that rounding takes it away
            return natural
        return Choice(natural.value, f"{natural.reason}; {name} is too small for a coarser grid")
    why = f"coarser than the data ({by(natural.value)} mm, {natural.reason}), so that "
    if wished_mm3 <= limit_mm3:
        why += f"the patch that this device can afford covers {covered:.0%} of the median body"
    else:
        why += f"the patch sees more, as far as {name} keeps {FEWEST_VOX} voxels in its small cases"
    return Choice(spacing_mm, why)


def rounded(spacing_mm: Iterable[float], digits: int) -> Float3:
    """Return a spacing with so many significant digits."""
    x, y, z = (float(f"{mm:.{digits}g}") for mm in map(float, spacing_mm))
    return x, y, z


def rounded_down(mm: float, digits: int = 3) -> float:
    """Return a length with so many significant digits that is not above it."""
    unit = 10.0 ** (floor(log10(mm)) + 1 - digits)
    return float(f"{floor(mm / unit + 1e-9) * unit:.{digits}g}")
