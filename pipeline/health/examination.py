"""What one reading of a case gives to those who judge a data set: facts that are small enough to keep for all cases."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np

from pipeline.dataset.cases import Case
from pipeline.dataset.checks import check_hounsfield, count_foreground, count_indices, load_pair
from pipeline.dataset.fingerprint import CaseFingerprint, fingerprint
from pipeline.formats.dispatch import read_image
from pipeline.labels import IGNORE, Labels
from pipeline.log import overhear
from pipeline.volume.body import AIR_BELOW_HU, body_box
from pipeline.volume.grid import Float3, Grid, box_of
from pipeline.volume.resample import resample_labels
from pipeline.volume.volume import Volume


@dataclass(frozen=True)
class Extremes:
    """The lowest and the highest value of an image, and how many voxels have just these."""

    lowest_hu: float
    lowest_vox: int
    highest_hu: float
    highest_vox: int


@dataclass(frozen=True, eq=False)
class Examination:
    """What was found in one case.

    labelled: whether it has a label map; without one all its voxels count as background.
    image_hash: SHA-256 of the voxels in RAS+ order; two cases with the same are the same scan.
    turned_degrees: the largest angle between an axis of the grid and the axis of the patient that it is named after.
    volumes_mm3: class index -> volume on the grid of the CT, and on the training grid as prepare makes it.
    cut_off_vox: labelled voxels that lie in the air around the body, which prepare cuts off.
    centre_x_mm: class index -> mean position on the axis to the patient's right.
    air_shares: class index -> share of its voxels, 0 to 1, that lie in air: below -500 HU.
    """

    case: Case
    labelled: bool
    fingerprint: CaseFingerprint
    extremes: Extremes
    image_hash: str
    turned_degrees: float
    volumes_mm3: Mapping[int, tuple[float, float]]
    cut_off_vox: int
    centre_x_mm: Mapping[int, float]
    air_shares: Mapping[int, float]


def examine(case: Case, *, labels: Labels, overlap: Sequence[str], spacing_mm: Float3) -> Examination:
    """Read a case once, and return what there is to know of it; a test case may have no label map.

    overlap: see `load_pair`. spacing_mm: of the training grid.
    What the reading warns of is not logged: `judge` says it with its cure. Raises UserError as `load_pair` does.
    """
    with overhear():
        if case.label is None and case.split == "test":
            image = read_image(case.image)
            check_hounsfield(image.voxels, case)
            encoded = Volume(np.zeros(image.grid.shape_vox, np.uint8), image.grid)
        else:
            image, encoded = load_pair(case, labels, overlap)
    volumes_mm3, cut_off_vox = volumes_on_training_grid(image, encoded.voxels, spacing_mm)
    return Examination(
        case=case,
        labelled=case.label is not None,
        fingerprint=fingerprint(case, image, encoded),
        extremes=extremes_of(image.voxels),
        image_hash=hash_of(image.voxels),
        turned_degrees=turned_degrees(image.grid),
        volumes_mm3=volumes_mm3,
        cut_off_vox=cut_off_vox,
        centre_x_mm=centres_x_mm(encoded.voxels, image.grid),
        air_shares=air_shares(image.voxels, encoded.voxels),
    )


def volumes_on_training_grid(
    image: Volume, encoded: np.ndarray, spacing_mm: Float3
) -> tuple[dict[int, tuple[float, float]], int]:
    """Return (volumes before and after by class, voxels cut off), from labels brought to the grid as prepare does it.

    The part around the body counts as a loss of volume.
    """
    start, shape = body_box(image.voxels)
    body = np.ascontiguousarray(encoded[box_of(start, shape)])
    crop = image.grid.crop(start, shape)
    target = crop.at_spacing(spacing_mm)
    kept = count_foreground(body)
    before, after = count_indices(encoded), count_indices(resample_labels(body, crop, target)[0]) if kept else {}
    voxel_mm3 = float(np.prod(image.grid.spacing_mm)), float(np.prod(spacing_mm))
    volumes = {
        label: (count * voxel_mm3[0], after.get(label, 0) * voxel_mm3[1])
        for label, count in before.items()
        if label not in (0, IGNORE)
    }
    return volumes, count_foreground(encoded) - kept


def extremes_of(voxels: np.ndarray) -> Extremes:
    """Return the lowest and the highest value of an image of any shape, and how many voxels have them."""
    low, high = voxels.min(), voxels.max()
    counts = (int(np.count_nonzero(voxels == value)) for value in (low, high))
    return Extremes(float(low), next(counts), float(high), next(counts))


def hash_of(voxels: np.ndarray) -> str:
    """Return the SHA-256 of a C-contiguous array's shape and values."""
    digest = hashlib.sha256(repr((voxels.shape, voxels.dtype.str)).encode())
    digest.update(voxels.reshape(-1).data)
    return digest.hexdigest()


def turned_degrees(grid: Grid) -> float:
    """Return the largest angle between an axis of a grid and the axis of RAS+ that it is closest to."""
    cosines = np.diag(grid.affine_mm[:3, :3]) / np.array(grid.spacing_mm)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())


def centres_x_mm(encoded: np.ndarray, grid: Grid) -> dict[int, float]:
    """Return the mean position of each class on the first axis of RAS+, which points to the patient's right."""
    found = cc3d.statistics(encoded)
    present = [label for label, count in enumerate(found["voxel_counts"]) if count and label not in (0, IGNORE)]
    return {label: float(grid.to_mm(found["centroids"][label])[0]) for label in present}


def air_shares(voxels_hu: np.ndarray, encoded: np.ndarray) -> dict[int, float]:
    """Return the share of each class's voxels that lie below -500 HU, where there is air, lung or bowel gas only."""
    in_air = count_indices(np.where(voxels_hu < AIR_BELOW_HU, encoded, 0))
    present = {label: count for label, count in count_indices(encoded).items() if label not in (0, IGNORE)}
    return {label: in_air.get(label, 0) / count for label, count in present.items()}
