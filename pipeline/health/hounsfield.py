"""Whether the values of a CT are Hounsfield units, told by where most voxels lie and never by the maximum."""

from typing import NamedTuple

import numpy as np

from pipeline.health.examination import Extremes
from pipeline.health.problem import Severity
from pipeline.volume.intensity import BIN_HU, BINS, BINS_FROM_HU

AIR_TO_HU = -900  # air is -1000, and what scanners fill up with, -1024, -2000 or -3024, is below it
SOFT_HU = (-100, 100)  # fat, muscle, blood and organs: most of a body
SHIFTED_HU = (900, 1130)  # the same where air is stored as 0: 1000 or 1024 too high
TISSUE_FROM_HU = -500  # below are air and lung only
TISSUE_ALONE = 0.999  # of voxels above that: then there is no air; 0.34 to 0.98 of 43 real CTs were below
SHIFTED_LEAST = 0.1  # of the body; bone and teeth so dense were at most 0.02 of 43 real CTs, 0.38 to 0.80 if shifted
SOFT_LEAST = 0.15  # of the body; 0.35 to 0.80 of 43 real CTs, at most 0.11 where 1024 was taken off twice
INVERTED_AIR_MOST = 0.01  # of voxels, near -1000: teeth and metal if signs are reversed, at most 0.006 of 23 real CTs
INVERTED_DENSER_MOST = 0.001  # of the body; 0 if reversed, as nothing is thinner than air, 0.004 of bone if shifted
CUT_OFF_LEAST = 0.01  # of voxels at one end value, where noise puts a few: what lay beyond was cut off
BONE_HU = 1000  # whoever cuts off above this loses nothing but metal
BELOW_WATER_LEAST = 0.001  # of voxels below 0: every body has fat, and mostly air around it
PICTURE = (0, 255)  # the values of 8-bit pictures

CENTRES_HU = BINS_FROM_HU + BIN_HU * (np.arange(BINS) + 0.5)


class Shares(NamedTuple):
    """Which share of voxels lies where.

    air, tissue, below_water: up to -900 HU, from -500 HU on, and below 0, of all voxels.
    soft, shifted: -100 to 100 HU, and 900 to 1130 HU, see `share_of_body`.
    denser: above 1130 HU, of those above -900 HU, without what has exactly the highest value, which may be padding.
    lowest, highest: exactly the lowest value, of all voxels, and exactly the highest, of those above -900 HU.
    """

    air: float
    tissue: float
    below_water: float
    soft: float
    shifted: float
    denser: float
    lowest: float
    highest: float


class Verdict(NamedTuple):
    """Why the values of a CT are not HU, or not all of them."""

    severity: Severity
    what: str
    found: str
    cure: str


def shares_of(histogram: np.ndarray, extremes: Extremes) -> Shares:
    """Return where the voxels of a CT lie, from its `volume.intensity.histogram`; a share of nothing is 0."""
    total = int(histogram.sum())
    above = int(histogram[SHIFTED_HU[1] < CENTRES_HU].sum())
    at_top = extremes.highest_vox if extremes.highest_hu >= SHIFTED_HU[1] else 0
    dense = int(histogram[CENTRES_HU > AIR_TO_HU].sum())
    return Shares(
        air=(total - dense) / max(1, total),
        tissue=histogram[CENTRES_HU > TISSUE_FROM_HU].sum() / max(1, total),
        below_water=histogram[CENTRES_HU < 0].sum() / max(1, total),
        soft=share_of_body(histogram, *SOFT_HU),
        shifted=share_of_body(histogram, *SHIFTED_HU),
        denser=max(0, above - at_top) / max(1, dense),
        lowest=extremes.lowest_vox / max(1, total),
        highest=min(extremes.highest_vox, dense) / max(1, dense),
    )


def share_of_body(histogram: np.ndarray, low_hu: float, high_hu: float) -> float:
    """Return the share of a range among the voxels above -900 HU, leaving out padding.

    Padding may have any value: it is what the fullest bin holds, unless that lies in the range.
    """
    inside, body = (low_hu < CENTRES_HU) & (high_hu > CENTRES_HU), CENTRES_HU > AIR_TO_HU
    fullest = np.flatnonzero(histogram == histogram.max())[0]
    body[fullest] &= inside[fullest]
    return float(histogram[inside].sum() / max(1, histogram[body].sum()))


def verdict_on(shares: Shares, extremes: Extremes) -> Verdict | None:
    """Return why an image is no CT in HU, None where it may be one."""
    low, high = extremes.lowest_hu, extremes.highest_hu
    lying = f"{shares.air:.1%} of the voxels near -1000 or below, {shares.soft:.1%} of the others near 0"
    reversed_signs = shares.air <= INVERTED_AIR_MOST and shares.denser <= INVERTED_DENSER_MOST
    if reversed_signs and shares.shifted >= SHIFTED_LEAST:
        found = f"{shares.air:.1%} of the voxels near -1000 or below, {shares.shifted:.1%} of the others near +1000"
        cure = "reverse the signs of slope and intercept in the header: air seems to be stored as +1000"
        return Verdict("error", "not HU", found, cure)
    if shares.tissue >= TISSUE_ALONE and shares.shifted >= SHIFTED_LEAST:
        found = f"none near -1000, {shares.shifted:.1%} of the body near 1024; values from {low:g} to {high:g}"
        cure = "add -1024 to the intercept in the header (-1000 if that does not bring air near -1000)"
        return Verdict("error", "HU shifted", found, cure)
    if (low, high) == PICTURE:
        return Verdict("error", "8-bit picture", f"values from {low:g} to {high:g}", "give the original CT")
    cut_below = low > AIR_TO_HU and shares.lowest >= CUT_OFF_LEAST
    cut_above = high < BONE_HU and shares.highest >= CUT_OFF_LEAST
    if cut_below or cut_above:
        found = f"values from {low:g} to {high:g}, {shares.lowest:.1%} and {shares.highest:.1%} just at these ends"
        cure = f"give the original CT, or keep intensity.window_hu within {low:g} to {high:g} if these are HU"
        return Verdict("warning", "HU cut off", found, cure)
    if shares.soft < SOFT_LEAST:
        return Verdict("error", "not HU", lying, "give the original CT, or mend slope and intercept in the header")
    if shares.below_water < BELOW_WATER_LEAST:
        return Verdict("warning", "nothing below 0", lying, "make sure that these are HU (air -1000, water 0)")
    return None
