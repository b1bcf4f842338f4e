"""HU, and the numbers that a network sees in their place."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np

from pipeline.volume.body import AIR_BELOW_HU

AIR_HU = -1024  # what lies outside every volume
BIN_HU = 10
BINS_FROM_HU, BINS_TO_HU = -1030, 3070
BINS = (BINS_TO_HU - BINS_FROM_HU) // BIN_HU
COUNTED_VOXELS = 2**20  # at a time, so that their bins, 8 bytes each, do not need four times a CT's memory


@dataclass(frozen=True)
class Intensity:
    """Clip to a window, scale it to 0..1, raise to a power, standardise with the data set's constants.

    window_hu: lower and upper bound. gamma: the power; below 1 lifts dark tissue. mean, std: of the scaled values.
    Raises ValueError where these are not finite, or make no rule.
    """

    window_hu: tuple[float, float]
    gamma: float = 1.0
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        low, high = self.window_hu
        if not (all(map(isfinite, (low, high, self.gamma, self.mean, self.std))) and low < high):
            raise ValueError(f"{self}: expected finite numbers, the window's lower bound first")
        if self.gamma <= 0 or self.std <= 0:
            raise ValueError(f"{self}: expected gamma and std above 0")

    def scale(self, hu: np.ndarray) -> np.ndarray:
        """Map HU of any shape and real type to float32 in 0..1: clipped to the window, scaled by it, then gamma."""
        low, high = self.window_hu
        scaled = np.array(hu, dtype=np.float32)
        np.clip(scaled, low, high, out=scaled)
        scaled -= low
        scaled /= high - low
        if self.gamma != 1:
            np.power(scaled, self.gamma, out=scaled)
        return scaled

    def apply(self, hu: np.ndarray) -> np.ndarray:
        """Map HU of any shape and real type to standardised float32: (scale(hu) - mean) / std."""
        standardised = self.scale(hu)
        standardised -= self.mean
        standardised /= self.std
        return standardised

    def air(self) -> float:
        """Return what air (-1024 HU) becomes, exactly as `apply` gives it: the value to fill the outside with."""
        return float(self.apply(np.array(AIR_HU)))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self) | {"window_hu": list(self.window_hu)}

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> "Intensity":
        """Make an intensity rule of what `to_json` gave."""
        low, high = given["window_hu"]
        return cls((float(low), float(high)), float(given["gamma"]), float(given["mean"]), float(given["std"]))


def histogram(voxels_hu: np.ndarray) -> np.ndarray:
    """Count voxels in bins of 10 HU from -1030 to 3070: any shape -> (410,) int64; values beyond go to the end bins."""
    flat = np.asarray(voxels_hu).reshape(-1)
    counts = np.zeros(BINS, np.int64)
    if flat.dtype == np.int16:
        of_value = np.zeros(2**16, np.int64)
        for first in range(0, flat.size, COUNTED_VOXELS):
            of_value += np.bincount(flat[first : first + COUNTED_VOXELS].view(np.uint16), minlength=2**16)
        np.add.at(counts, bins_of(np.arange(2**16, dtype=np.uint16).view(np.int16)), of_value)
        return counts
    for first in range(0, flat.size, COUNTED_VOXELS):
        counts += np.bincount(bins_of(flat[first : first + COUNTED_VOXELS]), minlength=BINS)
    return counts


def bins_of(hu: np.ndarray) -> np.ndarray:
    """Return the bin of the histogram that each value belongs to."""
    return np.floor((hu.astype(np.float32) - BINS_FROM_HU) / BIN_HU).clip(0, BINS - 1).astype(np.int64)


def standardisation(
    histograms: Iterable[np.ndarray], window_hu: tuple[float, float], gamma: float
) -> tuple[float, float]:
    """Return (mean, std) of the windowed body of a data set, from the `histogram` of each of its cases.

    A voxel counts with the centre of its bin, windowed by `Intensity.scale`; body is what lies above -500 HU.
    A larger case counts for more. Without a body voxel, or where all of them look the same, the std is 1.
    """
    counts = sum((np.asarray(given, np.float64) for given in histograms), start=np.zeros(BINS))
    centres_hu = BINS_FROM_HU + BIN_HU * (np.arange(BINS) + 0.5)
    counts = np.where(centres_hu > AIR_BELOW_HU, counts, 0.0)
    if counts.sum() == 0:
        return 0.0, 1.0
    scaled = Intensity(window_hu, gamma).scale(centres_hu).astype(np.float64)
    mean = np.average(scaled, weights=counts)
    std = np.sqrt(np.average((scaled - mean) ** 2, weights=counts))
    return float(mean), float(std) if std > 1e-6 else 1.0
