"""dataset.json: what a data set says about itself, in the forms that are in use.

Each key is optional, and others, such as "source" and "licence", are free:

    labels      {class name: value or list of values}, with "background" and "ignore" for values of that meaning;
                or {"value": class name}, as the Decathlon writes it; nnU-Net's lists are regions, see `nnunet`
    swap        [[class, class], ...] that exchange when left and right are mirrored
    test        [case name, ...] that are kept for testing
    validation  [case name, ...] that are held out to choose the best model by, in place of a fold
    patients    {case name: patient}; a case that is not listed is a patient of its own
    groups      {case name: group}, to report scores apart
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.dataset.cases import Case, Split, check_names
from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.labels import Labels, Region

NAME = "dataset.json"


@dataclass(frozen=True)
class Description:
    """The content of a dataset.json; {} where there is none. A key is checked when it is asked for."""

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, source: Path) -> "Description":
        """Read the dataset.json of a folder. Raises UserError where it is no JSON object."""
        path = source / NAME
        content = read_json(path) if path.exists() else {}
        if not isinstance(content, dict):
            raise UserError(f"{path}: expected an object with keys such as labels, found {type(content).__name__}.")
        return cls(path, content)

    def get(self, key: str, fits: Callable[[Any], bool], expected: str, default: Any) -> Any:
        """Return what stands under a key. Raises UserError where it is not what is expected there."""
        given = self.content.get(key, default)
        if not fits(given):
            raise UserError(f"{self.path}: {key} is {given!r:.80}; expected {expected}.")
        return given

    def names(self, key: str) -> list[str]:
        """Return the case names under a key."""
        given: list[str] = self.get(key, is_list_of_names, "a list of case names", [])
        return given

    def label_values(self) -> dict[str, tuple[int, ...]]:
        """Return the values of each name under `labels`, "background" and "ignore" too; {} where there are none."""
        given = self.get("labels", is_object, "an object of class name: value", {})
        if is_numbered(given):
            given = by_name(given)
        return {name: self.as_values(values, name) for name, values in given.items()}

    def as_values(self, given: Any, name: str) -> tuple[int, ...]:
        """Return the label values of one class, given as one integer or a list."""
        values = given if isinstance(given, list) else [given]
        if not all(type(value) is int for value in values):
            raise UserError(
                f"{self.path}: labels.{name} is {given!r}; expected an integer or a list of integers, as in "
                '"labels": {"liver": 1}.'
            )
        return tuple(values)

    def build_labels(self, values: Mapping[str, tuple[int, ...]], regions: Sequence[Region] = ()) -> Labels:
        """Return the classes of `label_values` with the `swap` of this file. Raises UserError where they are wrong."""
        swap = self.get("swap", is_list_of_pairs, "a list of pairs of class names", [])
        classes = dict(values)
        ignore = classes.pop("ignore", None)
        try:
            if ignore is not None and len(ignore) != 1:
                raise UserError(f"labels.ignore: {len(ignore)} values; give one integer.")
            return Labels(classes, tuple(regions), ignore=None if ignore is None else ignore[0], swap=swap)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from error

    def annotate(self, cases: Sequence[Case], splits: Sequence[Split]) -> list[Case]:
        """Return cases with the patient and the group that this file gives them, and the split by those of its lists.

        Raises UserError where it names a case that is not there, or one case in two of the lists.
        """
        known = {case.name for case in cases}
        split_of: dict[str, Split] = {}
        for key in splits:
            for name in self.names(key):
                if split_of.setdefault(name, key) != key:
                    raise UserError(f"{self.path}: {name} is in both {split_of[name]} and {key}; list it in one.")
        patients = self.get("patients", is_object_of_names, "an object of case name: patient", {})
        groups = self.get("groups", is_object_of_names, "an object of case name: group", {})
        given: dict[str, Iterable[str]] = {key: self.names(key) for key in splits}
        for key, names in (given | {"patients": patients, "groups": groups}).items():
            check_names(names, known, f"{self.path}: {key}")
        return [
            replace(
                case,
                patient=patients.get(case.name, case.patient),
                split=split_of.get(case.name, case.split),
                group=groups.get(case.name, case.group),
            )
            for case in cases
        ]


def check_one_channel(names: Sequence[object], what: str) -> None:
    """Raise UserError, with the names of the channels, where there is more than one."""
    if len(names) > 1:
        listed = ", ".join(str(name) for name in names)
        raise UserError(f"{what}: {len(names)} input channels ({listed}); one is supported: keep the CT alone.")


def is_numbered(labels: Mapping[str, Any]) -> bool:
    """True where classes stand under their values, as in {"0": "background", "1": "liver"}."""
    return bool(labels) and all(key.isdecimal() and isinstance(name, str) for key, name in labels.items())


def by_name(numbered: Mapping[str, str]) -> dict[str, list[int]]:
    """Return the values of each name; a name that stands under two values has both."""
    values: dict[str, list[int]] = {}
    for value, name in numbered.items():
        values.setdefault("background" if name.lower() == "background" else name, []).append(int(value))
    return values


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
