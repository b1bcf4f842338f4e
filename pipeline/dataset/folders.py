"""The layout of two folders: images/ and labels/ with one file a case, of the same name but for the suffix.

An optional dataset.json says more, see `description`. A case is for training unless it says otherwise.
"""

from pathlib import Path

from pipeline.dataset.cases import Case
from pipeline.dataset.description import Description
from pipeline.errors import UserError
from pipeline.formats.dispatch import EXPECTED, files_in
from pipeline.log import log

IMAGES, LABELS = "images", "labels"


def is_folders(source: Path) -> bool:
    """True for a folder with one of the two folders: the other one can only be missing by mistake."""
    return (source / IMAGES).is_dir() or (source / LABELS).is_dir()


def find(source: Path, description: Description) -> list[Case]:
    """Return the cases; at least one. Raises UserError where a folder is missing or holds no image."""
    for folder in (IMAGES, LABELS):
        if not (source / folder).is_dir():
            raise UserError(
                f"data.source: {source} has no folder {folder}; expected {IMAGES}/ and {LABELS}/ with one file a "
                f"case ({EXPECTED}), of the same name in both."
            )
    images, label_maps = images_in(source / IMAGES), files_in(source / LABELS)
    warn_of_unpaired(label_maps, images, source / IMAGES)
    cases = [Case(name, image, label_maps.get(name), name, "train") for name, image in images.items()]
    return description.annotate(cases, ("test", "validation"))


def images_in(folder: Path) -> dict[str, Path]:
    """Return the CTs of a folder by case name; at least one."""
    images = files_in(folder)
    if not images:
        raise UserError(f"{folder}: no file of a known format ({EXPECTED}); put one CT a case there.")
    return images


def warn_of_unpaired(label_maps: dict[str, Path], images: dict[str, Path], folder: Path) -> None:
    """Log label maps that have no image of their name: they are left out."""
    unpaired = [label_maps[name] for name in sorted(set(label_maps) - set(images))]
    if unpaired:
        listed = ", ".join(path.name for path in unpaired)
        log.warning("%s: left out, as %s has no image of that name: %s", unpaired[0].parent, folder, listed)
