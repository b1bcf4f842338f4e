"""Whether a CT and its label map can be trained on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.dataset.cases import Case
from pipeline.dataset.masks import add_mask, as_mask, class_of
from pipeline.errors import UserError
from pipeline.formats.dispatch import read_image, read_label, suffix_of
from pipeline.labels import IGNORE, Labels
from pipeline.log import log
from pipeline.volume.volume import Volume

SCALED_SIZE = 20  # of nearly all values of images that were windowed or standardised by somebody else
SCALED_SHARE = 0.99  # of an image at most that large that nothing but such an image has
SCALED_ABOVE = -100  # where a CT has a voxel of air, or of fat at least, below
BEYOND_SHARE = 0.01  # of an image outside int16: metal reaches 26,000 HU, but nothing else does


def load_pair(case: Case, labels: Labels, overlap: Sequence[str] = ()) -> tuple[Volume, Volume]:
    """Read a case: (CT in HU, int16 or float32; encoded labels, uint8 0..n and 255, on the grid of the CT).

    overlap: classes whose mask files may overlap, the first goes first, see `load_label`.
    A label without a voxel of any class is allowed, with a warning: it teaches where nothing is.
    Raises UserError where a file is missing or damaged, CT and label lie on different grids (corners more than a tenth
    of a voxel apart), the label is wrong in itself, or the CT holds something else than HU.
    """
    image = read_image(case.image)
    label = load_label(case, labels, overlap, image)
    check_hounsfield(image.voxels, case)
    if not count_foreground(label.voxels):
        log.warning("%s (case %s): the label is empty, no voxel belongs to any class", case.image, case.name)
    return image, label


def load_label(case: Case, labels: Labels, overlap: Sequence[str] = (), image: Volume | None = None) -> Volume:
    """Read the label of a case as class indices, uint8 0..n and 255, whether it is a label map or a mask a structure.

    overlap: classes whose mask files may overlap; a voxel of several goes to the class that is listed first.
    image: the CT, on whose grid the label must lie; without it a label map may lie anywhere.
    Raises UserError where there is no label, a file is missing, damaged or on another grid, a value belongs to no
    class, or masks overlap that `overlap` gives no order for.
    """
    if case.label is None:
        raise UserError(
            f"{case.image} has no label map; expected {expected_label(case)}. Add it, or make the case a test case, as "
            "docs/data.md says."
        )
    if isinstance(case.label, Mapping):
        image = image or read_image(case.image)
        return Volume(read_masks(case, case.label, labels, overlap, image), image.grid, image.header)
    label = read_label(case.label)
    if image is not None:
        check_same_grid(image, label, case.image, case.label)
    with said_of(case.label, case):
        return Volume(labels.encode(label.voxels), label.grid if image is None else image.grid, label.header)


def read_masks(
    case: Case, files: Mapping[str, Path], labels: Labels, overlap: Sequence[str], image: Volume
) -> np.ndarray:
    """Return the class indices that mask files of structures add up to, on the grid of a CT, one file at a time."""
    encoded = np.zeros(image.grid.shape_vox, np.uint8)
    for structure, path in files.items():
        name = class_of(structure, labels.names)
        if name is not None:
            mask = read_label(path)
            check_same_grid(image, mask, case.image, path)
            with said_of(path, case):
                add_mask(encoded, as_mask(mask.voxels), name, labels, overlap)
    return encoded


@contextmanager
def said_of(path: Path, case: Case) -> Iterator[None]:
    """Put file and case before a sentence that names no file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path} (case {case.name}): {error}") from error


def expected_label(case: Case) -> Path:
    """Return where the label of a CT would be, by the layout that its folder tells."""
    folder = case.image.parent
    if folder.name.startswith("images"):
        name = f"{case.name}{suffix_of(case.image)}"
        return folder.with_name(folder.name.replace("images", "labels", 1)) / name
    return folder / "segmentations"


def count_foreground(encoded: np.ndarray) -> int:
    """Return how many voxels of encoded labels of any shape belong to a class."""
    return int(np.count_nonzero((encoded != 0) & (encoded != IGNORE)))


def count_indices(encoded: np.ndarray) -> dict[int, int]:
    """Return how many voxels of encoded labels (x, y, z) have each class index, 0 and 255 too, that occurs."""
    counts = np.zeros(IGNORE + 1, np.int64)
    for plane in encoded:  # at once they would be turned into integers of eight times the memory
        counts += np.bincount(plane.reshape(-1), minlength=IGNORE + 1)
    return {int(index): int(counts[index]) for index in np.flatnonzero(counts)}


def check_same_grid(image: Volume, label: Volume, image_file: Path, label_file: Path) -> None:
    """Raise UserError with both grids where image and label do not lie on the same one."""
    if image.grid.matches(label.grid):
        return
    apart = ""
    if image.grid.shape_vox == label.grid.shape_vox:
        distance_mm = np.linalg.norm(image.grid.corners_mm() - label.grid.corners_mm(), axis=1).max()
        apart = f", corners up to {distance_mm:.3g} mm apart"
    raise UserError(
        f"{label_file} lies on another grid than {image_file}: {label.grid.describe()} against "
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
