"""What all training cases together say: the figures that choices are made from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.dataset.fingerprint import CaseFingerprint
from pipeline.volume.grid import Float3, Int3

SMALL_PERCENT = 10  # a small case of a class: a tenth of its cases have less
MM3_A_ML = 1000.0


@dataclass(frozen=True)
class ClassEvidence:
    """A class over all cases that have it.

    cases: how many have it. volume_ml: the median. share: of all voxels of all cases. objects: the median number of
    connected objects. small_mm3: the 10th percentile of the volume of a case's largest object; 0 where no case has any.
    """

    name: str
    cases: int
    volume_ml: float
    share: float
    objects: float
    small_mm3: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """The training cases of a data set.

    spacings_mm, shapes_vox, bodies_vox: (cases, 3), one row a case: spacing, size, and size of the body's box.
    histogram, foreground_histogram: int64 (410,), sums over the cases of what their fingerprints hold.
    """

    spacings_mm: np.ndarray
    shapes_vox: np.ndarray
    bodies_vox: np.ndarray
    histogram: np.ndarray
    foreground_histogram: np.ndarray
    classes: tuple[ClassEvidence, ...]

    @property
    def cases(self) -> int:
        return len(self.spacings_mm)

    def bodies_at(self, spacing_mm: Float3) -> np.ndarray:
        """Return the size of each case's body at a spacing, float (cases, 3), each at least one voxel."""
        return np.maximum(1.0, np.ceil(self.bodies_vox * self.spacings_mm / np.array(spacing_mm) - 0.01))

    def median_body_vox(self, spacing_mm: Float3) -> Int3:
        """Return the median size of the body at a spacing, axis by axis."""
        x, y, z = np.median(self.bodies_at(spacing_mm), axis=0)
        return int(x), int(y), int(z)


def gather(fingerprints: Sequence[CaseFingerprint], names: Sequence[str]) -> Evidence:
    """Return what at least one fingerprint says together. names: the classes; names[i] has the index i + 1."""
    return Evidence(
        spacings_mm=np.array([case.spacing_mm for case in fingerprints], np.float64),
        shapes_vox=np.array([case.shape_vox for case in fingerprints]),
        bodies_vox=np.array([case.body_shape_vox for case in fingerprints]),
        histogram=np.sum([case.histogram for case in fingerprints], axis=0),
        foreground_histogram=np.sum([case.foreground_histogram for case in fingerprints], axis=0),
        classes=tuple(class_evidence(fingerprints, name, index) for index, name in enumerate(names, 1)),
    )


def class_evidence(fingerprints: Sequence[CaseFingerprint], name: str, index: int) -> ClassEvidence:
    """Return what the cases say of one class."""
    having = [case for case in fingerprints if index in case.components]
    if not having:
        return ClassEvidence(name, 0, 0.0, 0.0, 0.0, 0.0)
    voxel_mm3 = np.array([np.prod(case.spacing_mm) for case in having])
    counts = np.array([case.counts[index] for case in having])
    largest = np.array([case.components[index].largest_vox for case in having])
    return ClassEvidence(
        name,
        len(having),
        volume_ml=float(np.median(counts * voxel_mm3)) / MM3_A_ML,
        share=float(counts.sum() / sum(np.prod(case.shape_vox) for case in fingerprints)),
        objects=float(np.median([case.components[index].number for case in having])),
        small_mm3=float(np.percentile(largest * voxel_mm3, SMALL_PERCENT)),
    )
