"""Data sets as people keep them on disk, turned into cases. The rest of the pipeline never learns which layout it was.

The layouts are sought in this order, and the first that fits is taken:

    a CSV file                                                                      `table`
    images/ and labels/                                                             `folders`
    imagesTr/ and labelsTr/, and a dataset.json with channel_names                  `nnunet`
    a dataset.json with training, a list of files                                   `decathlon`
    a folder for each case with ct.nii.gz and segmentations/NAME.nii.gz             `structures`
"""

from collections.abc import Callable
from pathlib import Path

from pipeline.dataset import decathlon, folders, nnunet, structures, table
from pipeline.dataset.cases import Case
from pipeline.dataset.description import NAME, Description
from pipeline.errors import UserError
from pipeline.labels import Labels

MOST_LISTED = 5


def find_cases(source: Path, labels: Labels) -> list[Case]:
    """Return the cases of a data set, sorted by name; at least one.

    labels: the classes that are wanted; for the layout that keeps a file for each structure.
    A case that is not annotated has no label; a label without an image is named in a warning and left out. Hidden files
    and files of unknown formats are not looked at.
    Raises UserError where the source is of no known layout, or is not what its layout asks for.
    """
    return sorted(finder_of(source)(labels), key=lambda case: case.name)


def finder_of(source: Path) -> Callable[[Labels], list[Case]]:
    """Return the function that gives the cases of a data set, in the order of its layout.

    Raises UserError with the known layouts and what was found where the source is of none of them.
    """
    if not source.exists():
        begin = "" if source.is_absolute() else f", which begins in {Path.cwd()}"
        raise UserError(f"data.source: {source}: no such file or folder; check the path{begin}.")
    if table.is_table(source):
        return lambda labels: table.find(source)
    if source.is_dir():
        description = Description.read(source)
        if folders.is_folders(source):
            return lambda labels: folders.find(source, description)
        if nnunet.is_nnunet(description):
            return lambda labels: nnunet.find(source, description)
        if decathlon.is_decathlon(description):
            return lambda labels: decathlon.find(source, description)
        if structures.is_structures(source):
            return lambda labels: structures.find(source, description, labels)
    raise UserError(
        f"data.source: {source} is of no known layout; expected images/ and labels/; or imagesTr/, labelsTr/ and the "
        "dataset.json of nnU-Net (channel_names) or the Decathlon (training); or a folder for each case with ct.nii.gz "
        f"and segmentations/; or a CSV file; found {listing(source)}. See docs/data.md."
    )


def read_labels(source: Path) -> Labels | None:
    """Return the classes that a data set names, None where it names none.

    They are those of its dataset.json, else one for each structure that has masks. Raises UserError where what it says
    about them is wrong.
    """
    declared = declared_labels(source)
    if declared is None and source.is_dir() and not folders.is_folders(source) and structures.is_structures(source):
        return structures.read_labels(source, Description.read(source))
    return declared


def declared_labels(source: Path) -> Labels | None:
    """Return the classes that the dataset.json in a folder names, None where there is none or it names none.

    Raises UserError where what it says about them is wrong.
    """
    description = Description.read(source)
    if "labels" not in description.content:
        return None
    if nnunet.is_nnunet(description):
        return nnunet.build_labels(description)
    return description.build_labels(description.label_values())


def listing(source: Path) -> str:
    """Return in words what is in a folder, or that it is a file."""
    if not source.is_dir():
        return "a file that is not called .csv"
    names = sorted(path.name + "/" * path.is_dir() for path in source.iterdir() if not path.name.startswith("."))
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    missing = "" if NAME in names else f", and no {NAME}"
    return (", ".join(names[:MOST_LISTED]) + more if names else "an empty folder") + missing
