"""Whether a CT and its label map can be trained on."""

import numpy as np

from pipeline.dataset.cases import Case
from pipeline.errors import UserError
from pipeline.labels import IGNORE, Labels
from pipeline.log import log
from pipeline.volume.nifti import read_image, read_label
from pipeline.volume.volume import Volume

SCALED_SIZE = 20  # of nearly all values of images that were windowed or standardised by somebody else
SCALED_SHARE = 0.99  # of an image at most that large that nothing but such an image has
SCALED_ABOVE = -100  # where a CT has a voxel of air, or of fat at least, below
BEYOND_SHARE = 0.01  # of an image outside int16: metal reaches 26,000 HU, but nothing else does


def load_pair(case: Case, labels: Labels) -> tuple[Volume, Volume]:
    """Read a case: (CT in HU, int16 or float32; encoded labels, uint8 0..n and 255, on the grid of the CT).

    A label map without a voxel of any class is allowed, with a warning: it teaches where nothing is.
    Raises UserError where a file is missing or damaged, the two lie on different grids (corners more than a tenth of a
    voxel apart), a label value belongs to no class, or the CT holds something else than HU.
    """
    if case.label is None:
        expected = case.image.parent.parent / "labels" / case.image.name
        raise UserError(
            f"{case.image} has no label map; expected {expected}. Add it, or list the case under 'test' in "
            "dataset.json."
        )
    image, label = read_image(case.image), read_label(case.label)
    check_same_grid(image, label, case)
    try:
        encoded = labels.encode(label.voxels)
    except UserError as error:
        raise UserError(f"{case.label} (case {case.name}): {error}") from error
    check_hounsfield(image.voxels, case)
    if not count_foreground(encoded):
        log.warning("%s (case %s): empty, no voxel belongs to any class", case.label, case.name)
    return image, Volume(encoded, image.grid, label.header)


def count_foreground(encoded: np.ndarray) -> int:
    """Return how many voxels of encoded labels of any shape belong to a class."""
    return int(np.count_nonzero((encoded != 0) & (encoded != IGNORE)))


def check_same_grid(image: Volume, label: Volume, case: Case) -> None:
    """Raise UserError with both grids where image and label map do not lie on the same one."""
    if image.grid.matches(label.grid):
        return
    apart = ""
    if image.grid.shape_vox == label.grid.shape_vox:
        distance_mm = np.linalg.norm(image.grid.corners_mm() - label.grid.corners_mm(), axis=1).max()
        apart = f", corners up to {distance_mm:.3g} mm apart"
    raise UserError(
        f"{case.label} lies on another grid than {case.image}: {label.grid.describe()} against "
        f"{image.grid.describe()}{apart}; expected corners within a tenth of a voxel: resample the label map "
        "onto its CT."
    )


def check_hounsfield(voxels: np.ndarray, case: Case) -> None:
    """Raise UserError where an image is constant, standardised, scaled to about 0..1, or in units far larger than HU.

    Shares decide, never the maximum: metal is rare. A warning is given where no value is negative.
    """
    low, high = float(voxels.min()), float(voxels.max())
    found = f"{case.image}: values from {low:.4g} to {high:.4g}"
    if low == high:
        raise UserError(f"{found}: all voxels are the same; expected HU (air -1000, water 0): give the original CT.")
    if low > SCALED_ABOVE and np.mean((voxels >= -SCALED_SIZE) & (voxels <= SCALED_SIZE)) >= SCALED_SHARE:
        raise UserError(
            f"{found}, nearly all in -{SCALED_SIZE}..{SCALED_SIZE}; "
            "expected HU (air -1000, water 0): it looks windowed or scaled already, give the original CT."
        )
    limits = np.iinfo(np.int16)
    beyond = np.mean((voxels < limits.min) | (voxels > limits.max))
    if beyond > BEYOND_SHARE:
        raise UserError(
            f"{found}, {beyond:.1%} of them beyond {limits.min}..{limits.max}; expected HU (air -1000, water 0): "
            "set slope and intercept in the header, or give the original CT."
        )
    if low >= 0:
        log.warning("%s, none negative; expected HU (air -1000, water 0)", found)
