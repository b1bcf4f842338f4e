"""The window of HU, and the constants that standardise what it leaves."""

import numpy as np

from pipeline.planning.choice import Choice, many
from pipeline.planning.evidence import Evidence
from pipeline.volume.intensity import BIN_HU, BINS_FROM_HU, standardisation

PERCENT = (0.5, 99.5)  # of the foreground's voxels (nnU-Net)
SOFT_TISSUE_HU = (-160, 240)  # width 400, level 40: fat, muscle and organs each have their own grey


def percentiles(histogram: np.ndarray, percent: tuple[float, float] = PERCENT) -> tuple[int, int]:
    """Return the HU between which the middle of a histogram lies, as edges of its bins of 10 HU.

    histogram: int64 (410,), not empty, see `volume.intensity.histogram`. The lower edge of the bin in which the lower
    percentile falls, and the upper edge of that of the upper one.
    """
    risen = np.cumsum(histogram)
    first, last = (int(np.searchsorted(risen, risen[-1] * share / 100)) for share in percent)
    return BINS_FROM_HU + BIN_HU * first, BINS_FROM_HU + BIN_HU * (last + 1)


def window_of(evidence: Evidence) -> Choice:
    """Return the window: what the classes' voxels hold, widened to soft tissue, in steps of 10 HU.

    The classes alone would give a liver a window in which the fat around it is as black as air.
    """
    low, high = percentiles(evidence.foreground_histogram)
    soft_low, soft_high = SOFT_TISSUE_HU
    window = (min(low, soft_low), max(high, soft_high))
    reason = f"{PERCENT[0]} to {PERCENT[1]} % of the labelled voxels lie in {low}..{high} HU"
    if window != (low, high):
        reason += f"; widened to hold soft tissue, {soft_low}..{soft_high}, in which neighbours are told apart"
    return Choice(window, reason)


def standard_of(evidence: Evidence, window_hu: tuple[float, float], gamma: float) -> tuple[Choice, Choice]:
    """Return mean and deviation, which are left to training, with what they would be on all cases.

    Written down, they would not follow a window that is changed later, and would have seen the held-out cases.
    """
    mean, std = standardisation([evidence.histogram], window_hu, gamma)
    reason = (
        f"null: train measures it on its own cases, for whatever window is set; on {many(evidence.cases, 'case')} the "
        f"windowed body, above -500 HU, has mean {mean:.4g} and deviation {std:.4g}"
    )
    return Choice(None, reason), Choice(None, "null: as the mean")
