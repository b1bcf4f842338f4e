"""The measured figures of a data set as lines for people."""

from collections.abc import Sequence

import numpy as np

from pipeline.log import by
from pipeline.planning.choice import many
from pipeline.planning.evidence import ClassEvidence, Evidence
from pipeline.planning.window import percentiles


def lines_of(evidence: Evidence, spacing_mm: Sequence[float]) -> list[str]:
    """Return spacings, sizes, HU and a table of classes; the last column is for the planned spacing."""
    lines = [
        f"{many(evidence.cases, 'case')}; the least, the median and the most along x, y, z:",
        f"  spacing, mm   {spread(evidence.spacings_mm)}",
        f"  size, voxels  {spread(evidence.shapes_vox)}",
        f"  body, voxels  {spread(evidence.bodies_vox)}",
    ]
    if evidence.foreground_histogram.any():
        low, high = percentiles(evidence.foreground_histogram)
        lines.append(f"  labelled voxels, HU  {low} to {high} (0.5 to 99.5 %)")
    width = max(len(name) for name in ("class", *(each.name for each in evidence.classes)))
    voxel_mm3 = float(np.prod(spacing_mm))
    lines.append(f"{'class':<{width}}  cases  volume, ml  objects  share of voxels  voxels on the grid, small case")
    lines += [line_of(each, width, voxel_mm3) for each in evidence.classes]
    return lines


def line_of(each: ClassEvidence, width: int, voxel_mm3: float) -> str:
    """Return a row of the table of classes."""
    kept = each.small_mm3 / voxel_mm3
    return (
        f"{each.name:<{width}}  {each.cases:>5}  {each.volume_ml:>10.3g}  {each.objects:>7.3g}"
        f"  {each.share:>15.2%}  {kept:>30,.0f}"
    )


def spread(values: np.ndarray) -> str:
    """Return least, median and most of each column of (cases, 3)."""
    rows = (values.min(axis=0), np.median(values, axis=0), values.max(axis=0))
    return "   ".join(by(float(f"{number:.4g}") for number in row) for row in rows)
