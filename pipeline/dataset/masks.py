"""A mask for each structure, brought together into one label map of class indices."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from pipeline.errors import UserError
from pipeline.labels import Labels


def class_of(structure: str, names: Sequence[str]) -> str | None:
    """Return the class that a structure's mask belongs to, None where it belongs to none.

    The class of the structure's own name goes first, then the one whose name, with * or ?, fits it. Raises UserError
    where two of these fit.
    """
    if structure in names:
        return structure
    fitting = [name for name in names if ("*" in name or "?" in name) and fnmatchcase(structure, name)]
    if len(fitting) > 1:
        raise UserError(
            f"labels: the mask {structure} fits both {fitting[0]} and {fitting[1]}; let it fit one of them only."
        )
    return fitting[0] if fitting else None


def add_mask(encoded: np.ndarray, mask: np.ndarray, name: str, labels: Labels, overlap: Sequence[str] = ()) -> None:
    """Write the index of a class into `encoded`, uint8 (x, y, z), where `mask`, bool, says so.

    overlap: classes whose masks may overlap one another; a voxel of several goes to the one that is listed first.
    Masks of one class may always overlap. Raises UserError with every other class that has voxels of this mask already
    and how many.
    """
    index = labels.index(name)
    rank = {labels.index(ranked): place for place, ranked in enumerate(overlap)}
    held = encoded[mask]
    others, counts = np.unique(held, return_counts=True)
    shared = {int(o): int(n) for o, n in zip(others, counts, strict=True) if o not in (0, index)}
    unordered = {labels.names[o - 1]: n for o, n in shared.items() if index not in rank or o not in rank}
    if unordered:
        listed = ", ".join(f"{other} ({count} voxels)" for other, count in unordered.items())
        raise UserError(
            f"the mask of {name} overlaps that of {listed}; mend the masks, or say which class goes first, such as "
            f"data.overlap=[{name}, {next(iter(unordered))}]."
        )
    held[~np.isin(held, [other for other in shared if rank[other] < rank[index]])] = index
    encoded[mask] = held


def as_mask(values: np.ndarray) -> np.ndarray:
    """Return where a mask file is not 0, bool. Raises UserError where it has more than one other value."""
    mask = values != 0
    value = values.max(initial=0) or values.min(initial=0)
    if np.count_nonzero(values == value) < np.count_nonzero(mask):
        found = ", ".join(str(value) for value in np.unique(values)[:8])
        raise UserError(f"values {found}; expected the mask of one structure, which has 0 and one other value.")
    return mask
