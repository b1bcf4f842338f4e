"""Distances between two surfaces in millimetres: the Hausdorff percentile and the normalised surface Dice."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from pipeline.metrics.surfels import neighbour_codes, surface_areas_mm2


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """How far each surface element is from the nearest one of the other surface.

    truth_mm, prediction_mm: float64 (n,), distances of the truth's elements and of the prediction's.
    truth_mm2, prediction_mm2: float64 (n,), areas of the same elements.
    """

    truth_mm: np.ndarray
    truth_mm2: np.ndarray
    prediction_mm: np.ndarray
    prediction_mm2: np.ndarray


def surface_distances(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float, float]
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks, from each to the other.

    truth, prediction: bool (x, y, z); outside the arrays is outside both objects. A crop that holds both objects
        gives the same result as the whole volume.

    The definition is that of Google DeepMind's surface-distance, see `surfels`. Raises ValueError where a mask is
    empty: it has no surface.
    """
    if not (truth.any() and prediction.any()):
        raise ValueError("an empty mask has no surface to measure a distance to")
    areas_mm2 = surface_areas_mm2(spacing_mm)
    truth_codes, prediction_codes = neighbour_codes(truth), neighbour_codes(prediction)
    truth_at, prediction_at = _elements(truth_codes), _elements(prediction_codes)
    shape = truth_codes.shape
    return SurfaceDistances(
        truth_mm=_nearest_mm(truth_at, prediction_at, shape, spacing_mm),
        truth_mm2=areas_mm2[truth_codes.ravel()[truth_at]],
        prediction_mm=_nearest_mm(prediction_at, truth_at, shape, spacing_mm),
        prediction_mm2=areas_mm2[prediction_codes.ravel()[prediction_at]],
    )


def hausdorff_mm(distances: SurfaceDistances, percent: float = 95.0) -> float:
    """Return the distance that `percent` of the surface area does not exceed: the larger of the two directions.

    percent: 0..100; 100 is the Hausdorff distance, 95 is known as HD95.
    """
    return max(
        _percentile_mm(distances.truth_mm, distances.truth_mm2, percent),
        _percentile_mm(distances.prediction_mm, distances.prediction_mm2, percent),
    )


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Return the share of both surfaces' area that is no further than `tolerance_mm` from the other, 0..1."""
    # The spacing of an oblique grid carries rounding: 2 mm of 2.0000001 are within 2 mm.
    reach_mm = tolerance_mm * (1 + 1e-6)
    near = distances.truth_mm2[distances.truth_mm <= reach_mm].sum()
    near += distances.prediction_mm2[distances.prediction_mm <= reach_mm].sum()
    return float(near / (distances.truth_mm2.sum() + distances.prediction_mm2.sum()))


def _elements(codes: np.ndarray) -> np.ndarray:
    """Return the flat indices of the codes that are neither 0 (all outside) nor 255 (all inside)."""
    return np.flatnonzero(codes.ravel() + np.uint8(1) > 1)  # 255 + 1 wraps to 0


def _nearest_mm(
    source_at: np.ndarray, target_at: np.ndarray, shape: tuple[int, ...], spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Return the distance from each source element to the nearest target element; both as sorted flat indices."""
    distances_mm = np.zeros(len(source_at))
    apart = np.flatnonzero(~np.isin(source_at, target_at, assume_unique=True))  # the others are at distance 0
    if len(apart) == 0:
        return distances_mm
    source = np.column_stack(np.unravel_index(source_at[apart], shape))
    target = np.column_stack(np.unravel_index(target_at, shape))
    tree = KDTree(target * spacing_mm, compact_nodes=False, balanced_tree=False)
    _, nearest = tree.query(source * spacing_mm)
    # From whole voxel offsets, equal distances come out equal to the last bit, wherever in the volume they are.
    distances_mm[apart] = np.linalg.norm((source - target[nearest]) * spacing_mm, axis=1)
    return distances_mm


def _percentile_mm(distances_mm: np.ndarray, areas_mm2: np.ndarray, percent: float) -> float:
    """Return the smallest distance within which lies at least `percent` of the area."""
    order = np.lexsort((areas_mm2, distances_mm))
    covered = np.cumsum(areas_mm2[order])
    position = int(np.searchsorted(covered / covered[-1], percent / 100))
    return float(distances_mm[order[min(position, len(order) - 1)]])
