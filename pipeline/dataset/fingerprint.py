"""What one case is like, in numbers that are small enough to keep: the ground that `plan` and `doctor` stand on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import cc3d
import numpy as np
from scipy import ndimage

from pipeline.dataset.cases import Case
from pipeline.dataset.checks import count_indices
from pipeline.labels import IGNORE
from pipeline.volume.body import body_box
from pipeline.volume.grid import Float3, Int3, box_of
from pipeline.volume.intensity import histogram
from pipeline.volume.volume import Header, Volume

TOWARDS, AWAY = "RAS", "LPI"  # what an axis is called that runs along x, y or z of RAS+, and against it


class Components(NamedTuple):
    """The connected objects (26 neighbours) of one class: voxels of the largest and the smallest, and how many."""

    largest_vox: int
    smallest_vox: int
    number: int


@dataclass(frozen=True, eq=False)
class CaseFingerprint:
    """What a case is like on the grid of its own CT, in RAS+ order.

    orientation: the axes of the file, such as "LPS".
    counts: voxels of each class index that occurs, 0 (background) and 255 (ignored) too.
    histogram, foreground_histogram: int64 (410,), see `volume.intensity.histogram`; of the whole CT, and of the voxels
        that belong to a class.
    components: by class index, of the classes that occur.
    body_shape_vox: size of the box around the body, see `volume.body.body_box`.
    """

    name: str
    shape_vox: Int3
    spacing_mm: Float3
    orientation: str
    counts: Mapping[int, int]
    histogram: np.ndarray
    foreground_histogram: np.ndarray
    components: Mapping[int, Components]
    body_shape_vox: Int3

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "name": self.name,
            "shape_vox": list(self.shape_vox),
            "spacing_mm": list(self.spacing_mm),
            "orientation": self.orientation,
            "counts": {str(index): count for index, count in self.counts.items()},
            "histogram": self.histogram.tolist(),
            "foreground_histogram": self.foreground_histogram.tolist(),
            "components": {str(index): list(each) for index, each in self.components.items()},
            "body_shape_vox": list(self.body_shape_vox),
        }

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> "CaseFingerprint":
        """Make a fingerprint of what `to_json` gave. Raises KeyError or TypeError where something is missing."""
        x, y, z = given["shape_vox"]
        x_mm, y_mm, z_mm = given["spacing_mm"]
        body_x, body_y, body_z = given["body_shape_vox"]
        return cls(
            name=given["name"],
            shape_vox=(x, y, z),
            spacing_mm=(x_mm, y_mm, z_mm),
            orientation=given["orientation"],
            counts={int(index): count for index, count in given["counts"].items()},
            histogram=np.array(given["histogram"], np.int64),
            foreground_histogram=np.array(given["foreground_histogram"], np.int64),
            components={int(index): Components(*each) for index, each in given["components"].items()},
            body_shape_vox=(body_x, body_y, body_z),
        )


def fingerprint(case: Case, image: Volume, encoded: Volume) -> CaseFingerprint:
    """Return what a case is like.

    image: the CT in HU. encoded: class indices on its grid, uint8 0..n, 255 where ignored; `load_pair` gives both.
    Nothing is read or changed. Without a labelled voxel the foreground's histogram is 0 and there are no components.
    """
    labels = encoded.voxels
    return CaseFingerprint(
        name=case.name,
        shape_vox=image.grid.shape_vox,
        spacing_mm=image.grid.spacing_mm,
        orientation=axes_of(image.header),
        counts=count_indices(labels),
        histogram=histogram(image.voxels),
        foreground_histogram=histogram(image.voxels[(labels != 0) & (labels != IGNORE)]),
        components=components_of(labels),
        body_shape_vox=body_box(image.voxels)[1],
    )


def axes_of(header: Header | None) -> str:
    """Return the letters of a file's axes, "RAS" for a volume that was made and not read."""
    if header is None:
        return TOWARDS
    letters = [""] * 3
    for axis, (place, direction) in enumerate(header.orientation):
        letters[int(place)] = (TOWARDS if direction > 0 else AWAY)[axis]
    return "".join(letters)


def components_of(encoded: np.ndarray) -> dict[int, Components]:
    """Return the components of every class in a label map (x, y, z), looking only where it has any class."""
    boxes = {label: box for label, box in enumerate(ndimage.find_objects(encoded), 1) if box and label != IGNORE}
    if not boxes:
        return {}
    start = np.min([[extent.start for extent in box] for box in boxes.values()], axis=0)
    stop = np.max([[extent.stop for extent in box] for box in boxes.values()], axis=0)
    classes = encoded[box_of(tuple(start), tuple(stop - start))]
    components = cc3d.connected_components(np.where(classes == IGNORE, 0, classes), connectivity=26)
    sizes_vox = np.bincount(components.reshape(-1))
    inside = components > 0
    owner = np.zeros(len(sizes_vox), np.uint8)
    owner[components[inside]] = classes[inside]  # all voxels of a component have one class
    sizes_of = {label: sizes_vox[owner == label] for label in boxes}
    return {label: Components(int(s.max()), int(s.min()), len(s)) for label, s in sizes_of.items()}
