"""nnU-Net's raw layout: imagesTr/case_0000.nii.gz, labelsTr/case.nii.gz, and a dataset.json with channel_names.

imagesTs/ holds the test cases, with their labels in labelsTs/ where there are any. A list of values under `labels` is a
region there, a class that may overlap others, and `regions_class_order` says what is written for each region. Source:
nnU-Net 2.8, documentation/dataset_format.md and utilities/label_handling.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.dataset.cases import Case, Split
from pipeline.dataset.description import Description, check_one_channel
from pipeline.dataset.folders import images_in, warn_of_unpaired
from pipeline.errors import UserError
from pipeline.formats.dispatch import EXPECTED, SUFFIXES, files_in
from pipeline.labels import Labels, Region

CHANNEL = re.compile(r"(.+)_(\d{4})")  # of a file name without its suffix


def is_nnunet(description: Description) -> bool:
    """True for the dataset.json of an nnU-Net raw data set; it may lie apart from the images."""
    return "channel_names" in description.content or "regions_class_order" in description.content


def find(source: Path, description: Description) -> list[Case]:
    """Return the cases of imagesTr/ and imagesTs/; at least one.

    Raises UserError where there is more than one input channel, where a file is not named as the layout asks for, and
    where a case is in both folders.
    """
    channels = description.get("channel_names", lambda given: isinstance(given, dict), "an object of channel: name", {})
    check_one_channel(list(channels.values()), f"{description.path}: channel_names")
    check_file_ending(description)
    train = images_of(source / "imagesTr")
    test = images_of(source / "imagesTs") if (source / "imagesTs").is_dir() else {}
    twice = sorted(set(train) & set(test))
    if twice:
        raise UserError(f"{source}: the case {twice[0]!r} is in both imagesTr and imagesTs; rename or remove one.")
    cases = [
        *pair(train, source / "imagesTr", source / "labelsTr", "train"),
        *pair(test, source / "imagesTs", source / "labelsTs", "test"),
    ]
    return description.annotate(cases, ("validation",))


def pair(images: dict[str, Path], image_folder: Path, label_folder: Path, split: Split) -> list[Case]:
    """Return the cases of a folder of CTs with the labels that another folder has for them."""
    label_maps = files_in(label_folder) if label_folder.is_dir() else {}
    warn_of_unpaired(label_maps, images, image_folder)
    return [Case(name, image, label_maps.get(name), name, split) for name, image in images.items()]


def images_of(folder: Path) -> dict[str, Path]:
    """Return the CTs of a folder by case, which is the file's name without channel and suffix."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected the training CTs there, as case_0000.nii.gz.")
    found: dict[str, Path] = {}
    for name, path in images_in(folder).items():
        named = CHANNEL.fullmatch(name)
        if named is None:
            raise UserError(f"{path}: expected a name that ends in the channel, such as {name}_0000.nii.gz; rename it.")
        if named[2] != "0000":
            raise UserError(f"{path}: a second input channel of the case {named[1]!r}; one is supported, _0000.")
        found[named[1]] = path
    return found


def check_file_ending(description: Description) -> None:
    """Raise UserError where the data set says that its files are of a format that cannot be read."""
    ending = description.content.get("file_ending", SUFFIXES[0])
    if not isinstance(ending, str) or ending.lower() not in SUFFIXES:
        raise UserError(f"{description.path}: file_ending is {ending!r}; expected {EXPECTED}: convert the files.")


def build_labels(description: Description) -> Labels:
    """Return the classes of nnU-Net's `labels`, and its regions where a list has more than one value.

    Where there are regions, every value that occurs in one is a class of its own, called by the name that it alone
    stands for, else "label 2". Every name is a region of these classes, written in the order of `labels` with the
    value that regions_class_order has in its place: head.kind=regions then decides as nnU-Net does.
    Raises UserError where regions and their order do not fit together.
    """
    given = description.label_values()
    special = {name: given.pop(name) for name in ("background", "ignore") if name in given}
    if all(len(values) == 1 for values in given.values()):
        return description.build_labels(special | given)
    order = description.get("regions_class_order", is_list_of_integers, "a list of integers, one a region", [])
    if len(order) != len(given):
        raise UserError(
            f"{description.path}: regions_class_order has {len(order)} values for {len(given)} regions "
            f"({', '.join(given)}); give the value to write for each, in their order."
        )
    names = class_names(given)
    strange = [value for value in order if value not in names]
    if strange:
        raise UserError(
            f"{description.path}: regions_class_order has {strange[0]}, which stands in no region; expected values "
            f"among {sorted(names)}."
        )
    regions = [
        Region(name, tuple(names[value] for value in dict.fromkeys(values)), names[write])
        for (name, values), write in zip(given.items(), order, strict=True)
    ]
    return description.build_labels(special | {name: (value,) for value, name in names.items()}, regions)


def class_names(regions: Mapping[str, tuple[int, ...]]) -> dict[int, str]:
    """Return a name for every value of the regions, by rising value."""
    alone = {values[0]: name for name, values in reversed([*regions.items()]) if len(set(values)) == 1}
    every = sorted({value for values in regions.values() for value in values})
    return {value: alone.get(value, f"label {value}") for value in every}


def is_list_of_integers(given: object) -> bool:
    """True for a JSON list of integers."""
    return isinstance(given, list) and all(type(value) is int for value in given)
