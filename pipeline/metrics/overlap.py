"""Overlap of two label maps: one count of voxels by (truth, prediction), and what follows from it."""

from collections.abc import Sequence

import numpy as np

from pipeline.labels import IGNORE


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Count voxels by their class in the truth (row) and in the prediction (column).

    truth, prediction: encoded labels, uint8 of one shape: 0 is background, 1..classes, 255 is ignored.
    classes: the number of foreground classes.

    Returns int64 (classes + 1, classes + 1). A voxel that the truth ignores is counted nowhere; one that the
    prediction calls ignored counts as background, as a prediction may not excuse itself. Raises ValueError where the
    shapes differ or a value lies between `classes` and 255.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has the shape {truth.shape}, prediction {prediction.shape}")
    # Most voxels of a CT are background in both: only the others are worth a pass with wide integers.
    truth, prediction = truth.ravel(), prediction.ravel()
    marked = np.flatnonzero(truth | prediction)
    pairs = truth[marked].astype(np.uint16) * 256 + prediction[marked]
    counts = np.bincount(pairs, minlength=256 * 256).reshape(256, 256)
    counts[0, 0] = truth.size - marked.size
    counts[:, 0] += counts[:, IGNORE]
    counts[:, IGNORE] = 0
    counts[IGNORE] = 0
    matrix = counts[: classes + 1, : classes + 1]
    if matrix.sum() != counts.sum():
        raise ValueError(f"labels between {classes + 1} and {IGNORE - 1} stand for no class")
    return matrix.copy()


def confusion_of_union(confusion: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Return what `confusion_matrix` would count if some classes were the only one and all others background.

    confusion: what `confusion_matrix` returns. classes: indices out of 1..classes; none make an empty union.

    Returns int64 (2, 2).
    """
    inside = np.isin(np.arange(len(confusion)), classes)
    sides = np.stack([~inside, inside]).astype(np.int64)
    return sides @ confusion @ sides.T


def truth_voxels(confusion: np.ndarray) -> np.ndarray:
    """Return the number of voxels of each foreground class in the truth, int64 (classes,)."""
    return confusion.sum(axis=1)[1:]


def prediction_voxels(confusion: np.ndarray) -> np.ndarray:
    """Return the number of voxels of each foreground class in the prediction, int64 (classes,)."""
    return confusion.sum(axis=0)[1:]


def dice(confusion: np.ndarray) -> np.ndarray:
    """Return 2 |T and P| / (|T| + |P|) of each foreground class, float64 (classes,) in 0..1; NaN where both are empty.

    confusion: what `confusion_matrix` returns.
    """
    return _ratio(2 * _common(confusion), truth_voxels(confusion) + prediction_voxels(confusion))


def iou(confusion: np.ndarray) -> np.ndarray:
    """Return |T and P| / |T or P| of each foreground class, float64 (classes,) in 0..1; NaN where both are empty.

    confusion: what `confusion_matrix` returns.
    """
    common = _common(confusion)
    return _ratio(common, truth_voxels(confusion) + prediction_voxels(confusion) - common)


def _common(confusion: np.ndarray) -> np.ndarray:
    """Return the number of voxels on which truth and prediction agree, by foreground class."""
    return confusion.diagonal()[1:]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
