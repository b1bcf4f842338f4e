"""Data sets as people keep them on disk, turned into cases.

The layout: `images/` and `labels/` with one NIfTI file a case, of the same name but for the suffix, and optionally
`dataset.json` with these keys, each optional; others, such as "source" and "licence", are free:

    labels    {class name: value or list of values}; "background" and "ignore" are values of that meaning
    swap      [[class, class], ...] that exchange when left and right are mirrored
    test      [case name, ...] that are kept for testing; all others are for training
    patients  {case name: patient}; a case that is not listed is a patient of its own
"""

from pathlib import Path
from typing import Any

from pipeline.dataset.cases import Case, check_names
from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.labels import Labels
from pipeline.log import log

SUFFIXES = (".nii.gz", ".nii")
IMAGES, LABELS, DESCRIPTION = "images", "labels", "dataset.json"


def find_cases(source: Path, labels: Labels) -> list[Case]:
    """Return the cases of a data set, sorted by name; at least one.

    labels: the classes that are wanted; for layouts that keep a file for each class, which this one does not.
    An image without a label map becomes a case without one; a label map without an image is named in a warning and
    left out. Hidden files and files that are not `.nii` or `.nii.gz` are not looked at.
    Raises UserError where a folder is missing, there is no image, a case has two files, or dataset.json is wrong.
    """
    for folder in (IMAGES, LABELS):
        if not (source / folder).is_dir():
            raise UserError(
                f"data.source: {source} has no folder {folder}; expected {IMAGES}/ and {LABELS}/ with one .nii or "
                ".nii.gz file a case, of the same name in both."
            )
    images, label_maps = nifti_files(source / IMAGES), nifti_files(source / LABELS)
    if not images:
        raise UserError(f"{source / IMAGES}: no .nii or .nii.gz file; put one CT a case there.")
    unpaired = sorted(set(label_maps) - set(images))
    if unpaired:
        listed = ", ".join(label_maps[name].name for name in unpaired)
        log.warning("%s: left out, as %s has no image of that name: %s", source / LABELS, source / IMAGES, listed)
    description = read_description(source)
    test, patients = description.get("test", []), description.get("patients", {})
    check_names(test, images, f"{source / DESCRIPTION}: test")
    check_names(patients, images, f"{source / DESCRIPTION}: patients")
    cases = [
        Case(name, image, label_maps.get(name), patients.get(name, name), "test" if name in test else "train")
        for name, image in sorted(images.items())
    ]
    check_leak(cases, source)
    return cases


def read_labels(source: Path) -> Labels | None:
    """Return the classes that a data set's dataset.json names, None where there is no such file or it names none.

    Raises UserError where what it says about them is wrong.
    """
    description = read_description(source)
    if "labels" not in description:
        return None
    values = {name: as_values(given, name, source) for name, given in description["labels"].items()}
    ignore = values.pop("ignore", None)
    try:
        if ignore is not None and len(ignore) != 1:
            raise UserError(f"labels.ignore: {len(ignore)} values; give one integer.")
        return Labels(values, ignore=None if ignore is None else ignore[0], swap=description.get("swap", []))
    except UserError as error:
        raise UserError(f"{source / DESCRIPTION}: {error}") from error


def nifti_files(folder: Path) -> dict[str, Path]:
    """Return the .nii and .nii.gz files of a folder by case name, sorted; hidden ones are not looked at.

    Raises UserError where two of them are of one case.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = case_name(path)
        if name is None or path.name.startswith("."):
            continue
        if name in found:
            raise UserError(f"{found[name]} and {path} are two files for the case {name!r}; remove one of them.")
        found[name] = path
    return found


def case_name(path: Path) -> str | None:
    """Return a file's name without .nii or .nii.gz, in letters of either size; None where it has neither."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    return None if suffix is None else path.name[: -len(suffix)]


def read_description(source: Path) -> dict[str, Any]:
    """Return dataset.json with the types of its known keys checked, {} where there is none."""
    path = source / DESCRIPTION
    if not path.exists():
        return {}
    description = read_json(path)
    if not isinstance(description, dict):
        raise UserError(f"{path}: expected an object with keys such as labels, found {type(description).__name__}.")
    shapes = {
        "labels": (is_object, "an object of class name: value"),
        "swap": (is_list_of_pairs, "a list of pairs of class names"),
        "test": (is_list_of_names, "a list of case names"),
        "patients": (is_object_of_names, "an object of case name: patient"),
    }
    for key, (fits, expected) in shapes.items():
        if key in description and not fits(description[key]):
            raise UserError(f"{path}: {key} is {description[key]!r:.80}; expected {expected}.")
    return description


def is_object(given: Any) -> bool:
    """True for a JSON object."""
    return isinstance(given, dict)


def is_object_of_names(given: Any) -> bool:
    """True for a JSON object with strings as values."""
    return is_object(given) and is_list_of_names(list(given.values()))


def is_list_of_names(given: Any) -> bool:
    """True for a JSON list of strings."""
    return isinstance(given, list) and all(isinstance(name, str) for name in given)


def is_list_of_pairs(given: Any) -> bool:
    """True for a JSON list of lists of two strings."""
    return isinstance(given, list) and all(is_list_of_names(pair) and len(pair) == 2 for pair in given)


def as_values(given: Any, name: str, source: Path) -> tuple[int, ...]:
    """Return the label values of one class, given as one integer or a list."""
    values = given if isinstance(given, list) else [given]
    if not all(type(value) is int for value in values):
        raise UserError(
            f"{source / DESCRIPTION}: labels.{name} is {given!r}; expected an integer or a list of integers, as in "
            '"labels": {"liver": 1}.'
        )
    return tuple(values)


def check_leak(cases: list[Case], source: Path) -> None:
    """Warn of patients who have cases both for training and for testing: the test would flatter the model."""
    training, testing = ({case.patient for case in cases if case.split == split} for split in ("train", "test"))
    if training & testing:
        listed = ", ".join(sorted(training & testing))
        log.warning("%s: patients with cases both in training and in test: %s", source / DESCRIPTION, listed)
