"""One scan of a data set, and choosing among scans by name."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import UserError

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Case:
    """A CT with its label, whatever the layout of the data set.

    label: a label map; or the mask of each structure by its name, where a structure without one is absent; or None
        where the case is not annotated: it can only be predicted.
    patient: cases of one patient are never divided between training, validation and testing.
    split: "validation" where the data set itself says so, see `dataset.folds.held_out`; else training cases are
        divided by folds.
    group: what results may be told apart by, such as a scanner or a hospital; "" is none.
    """

    name: str
    image: Path
    label: Path | Mapping[str, Path] | None
    patient: str
    split: Split
    group: str = ""

    @property
    def is_for_training(self) -> bool:
        """True unless the case is kept for testing: what is prepared, and read by train."""
        return self.split != "test"

    @property
    def has_masks(self) -> bool:
        """True where the label is a file for each structure, found by the structure's name."""
        return isinstance(self.label, Mapping)

    def files(self) -> dict[str, Path]:
        """Return the files of the case by role: "image", and "label" or a "label:NAME" for each mask."""
        if self.label is None:
            return {"image": self.image}
        if isinstance(self.label, Mapping):
            return {"image": self.image} | {f"label:{name}": path for name, path in self.label.items()}
        return {"image": self.image, "label": self.label}

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; paths are absolute, so that they hold in any current folder."""
        label: Any = self.label
        if isinstance(label, Mapping):
            label = {name: str(path.absolute()) for name, path in label.items()}
        elif label is not None:
            label = str(label.absolute())
        return {
            "name": self.name,
            "image": str(self.image.absolute()),
            "label": label,
            "patient": self.patient,
            "split": self.split,
            "group": self.group,
        }

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> "Case":
        """Make a case of what `to_json` gave."""
        label = given["label"]
        if isinstance(label, dict):
            label = {name: Path(path) for name, path in label.items()}
        elif label is not None:
            label = Path(label)
        return cls(given["name"], Path(given["image"]), label, given["patient"], given["split"], given["group"])


def leave_out(cases: Sequence[Case], exclude: Collection[str]) -> list[Case]:
    """Return the cases whose name is not in `exclude`.

    Raises UserError where `exclude` names a case that is not there, and where no case is left.
    """
    check_names(exclude, [case.name for case in cases], "data.exclude")
    kept = [case for case in cases if case.name not in exclude]
    if not kept:
        raise UserError(f"data.exclude: all {len(cases)} cases are left out; keep at least one.")
    return kept


def check_names(names: Iterable[str], known: Collection[str], key: str) -> None:
    """Raise UserError that names the first of `names` that is no known case, and a known one like it. There is one."""
    for name in names:
        if name not in known:
            similar = get_close_matches(name, known, n=1)
            hint = f"did you mean {similar[0]!r}?" if similar else f"expected names such as {min(known)!r}."
            raise UserError(f"{key}: there is no case {name!r} among {len(known)}; {hint}")


def check_patients(cases: Iterable[Case]) -> None:
    """Raise UserError with patient and cases where a patient has cases in two splits: the score would be flattered."""
    of_patient: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        of_patient[case.patient].append(case)
    for patient, theirs in of_patient.items():
        if len({case.split for case in theirs}) > 1:
            listed = ", ".join(f"{case.name} ({case.split})" for case in theirs)
            raise UserError(
                f"data.source: the patient {patient!r} has cases in more than one of training, validation and test: "
                f"{listed}; put all of them into one, or leave some out with data.exclude."
            )
