"""One scan of a data set, and choosing among scans by name."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import UserError


@dataclass(frozen=True)
class Case:
    """A CT with its label map, whatever the layout of the data set.

    label: None where there is no label map; such a case can only be predicted.
    patient: cases of one patient are never split between training and validation.
    group: what results may be told apart by, such as a scanner or a hospital; "" is none.
    """

    name: str
    image: Path
    label: Path | None
    patient: str
    split: Literal["train", "test"]
    group: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; paths are absolute, so that they hold in any current folder."""
        return {
            "name": self.name,
            "image": str(self.image.absolute()),
            "label": None if self.label is None else str(self.label.absolute()),
            "patient": self.patient,
            "split": self.split,
            "group": self.group,
        }

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> "Case":
        """Make a case of what `to_json` gave."""
        label = None if given["label"] is None else Path(given["label"])
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
