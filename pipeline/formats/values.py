"""What the numbers in a file mean: HU of a CT, integers of a label map; a slab at a time, so that memory stays low."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import UserError
from pipeline.volume.grid import Grid, Int3
from pipeline.volume.volume import Header

Scaling = tuple[float, float]  # slope, intercept
UNSCALED: Scaling = (1.0, 0.0)
SLAB_VOX = 2**20


class Stored(NamedTuple):
    """What a file holds, as its numbers stand: voxels (x, y, z) in closest RAS+ order, C-contiguous, native."""

    voxels: np.ndarray
    scaling: Scaling
    grid: Grid
    header: Header


def spatial_shape(shape: tuple[int, ...], path: Path) -> Int3:
    """Return the three sizes of a volume; trailing axes of size 1 do not count. Raises UserError for anything else."""
    found = " x ".join(str(n) for n in shape)
    if min(shape, default=0) < 1:
        raise UserError(f"{path}: no voxels (shape {found}); expected a volume with three axes.")
    if len(shape) < 3:
        raise UserError(f"{path}: {len(shape)}D (shape {found}); expected a volume with three axes, not a slice.")
    if prod(shape[3:]) != 1:
        raise UserError(
            f"{path}: {len(shape)}D (shape {found}); expected three axes: write each volume to its own file."
        )
    return shape[0], shape[1], shape[2]


def to_hu(raw: np.ndarray, scaling: Scaling, path: Path) -> np.ndarray:
    """Return HU: int16 where all are whole and fit, else float32."""
    if raw.dtype == np.int16 and scaling == UNSCALED:
        return raw
    limits = np.iinfo(np.int16)
    whole = np.empty(raw.shape, np.int16)
    fits, bad = True, 0
    for slab in _slabs(raw.shape):
        hu = _scaled(raw[slab], scaling)
        bad += _not_finite(hu)
        fits = fits and not bad and limits.min <= hu.min() and hu.max() <= limits.max
        if fits:
            whole[slab] = hu
            fits = np.array_equal(whole[slab], hu)
    _check_finite(bad, raw, path, "replace them by -1024, which is air")
    if fits:
        return whole
    if raw.dtype == np.float32 and scaling == UNSCALED:
        return raw
    del whole
    hu = np.empty(raw.shape, np.float32)
    for slab in _slabs(raw.shape):
        hu[slab] = _scaled(raw[slab], scaling)
    return hu


def to_integers(raw: np.ndarray, scaling: Scaling, path: Path) -> np.ndarray:
    """Return label values: as stored where those are integers without a slope, else int32. UserError on fractions."""
    if raw.dtype.kind in "iu" and scaling == UNSCALED:
        return raw
    integers = np.empty(raw.shape, np.int32)
    bad, fractions, example = 0, 0, 0.0
    low, high = np.inf, -np.inf
    for slab in _slabs(raw.shape):
        values = raw[slab] if scaling == UNSCALED else raw[slab] * scaling[0] + scaling[1]
        bad += _not_finite(values)
        with np.errstate(invalid="ignore"):
            whole = np.rint(values).astype(np.int32)
        # A slope has the precision of float32: 51 * (5 / 255) is not quite 1.
        strange = values[~np.isclose(values, whole, rtol=1e-6, atol=1e-6)]
        if strange.size:
            example = example if fractions else strange[0]
            fractions += strange.size
        low, high = min(low, values.min()), max(high, values.max())
        integers[slab] = whole
    _check_finite(bad, raw, path, "write the original integers, 0 for background")
    if fractions:
        hint = "the labels look rescaled to 0..1" if low >= 0 and high <= 1 else "this is no label map"
        raise UserError(
            f"{path}: label value {example:.4g} (and {fractions} voxels like it) is not "
            f"a whole number of 32 bits; {hint}: write the original integers."
        )
    return integers


def _slabs(shape_vox: tuple[int, ...]) -> Iterator[slice]:
    """Yield ranges along the first axis that hold about SLAB_VOX voxels each."""
    thickness = max(1, SLAB_VOX // prod(shape_vox[1:]))
    for first in range(0, shape_vox[0], thickness):
        yield slice(first, first + thickness)


def _scaled(raw: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Return slope * raw + intercept as float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = raw.astype(np.float32)
        if scaling != UNSCALED:
            values *= scaling[0]
            values += scaling[1]
    return values


def _not_finite(values: np.ndarray) -> int:
    """Return how many values are NaN or infinite."""
    return values.size - int(np.count_nonzero(np.isfinite(values)))


def _check_finite(bad: int, raw: np.ndarray, path: Path, cure: str) -> None:
    """Raise UserError with the cure if any voxels are NaN or infinite."""
    if bad:
        raise UserError(f"{path}: {bad} of {raw.size} voxels are NaN or infinite; {cure}.")
