"""What a store is a store of: read by the stages that come after prepare, who then need not see the source."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.dataset.cases import Case
from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pipeline.labels import Labels
from pipeline.store.facts import check_format, whole
from pipeline.store.layout import FORMAT, catalogue_file
from pipeline.volume.grid import Float3


@dataclass(frozen=True)
class Catalogue:
    """The cases of a data set as prepare found them last, whether or not they could be prepared.

    cases: test cases, and cases that were left out by data.exclude, too.
    keys: training or validation case that was not left out -> hash of what its prepared case must have been made from
        and how.
    format: of the store.
    """

    labels: Labels
    spacing_mm: Float3
    cases: tuple[Case, ...]
    keys: Mapping[str, str]
    format: int = FORMAT

    def write(self, store: Path) -> None:
        """Write the catalogue of a store, atomically."""
        value = {
            "format": self.format,
            "labels": self.labels.to_json(),
            "spacing_mm": self.spacing_mm,
            "cases": [case.to_json() for case in self.cases],
            "keys": dict(self.keys),
        }
        write_json(catalogue_file(store), value)

    @classmethod
    def read(cls, store: Path) -> "Catalogue":
        """Read the catalogue of a store. Raises UserError where there is none, or it cannot be read."""
        path = catalogue_file(store)
        if not path.exists():
            inside = store / "store"  # of a work folder
            cure = "run prepare, or set data.store, or work, to one that has some."
            if catalogue_file(inside).exists():
                cure = f"did you mean data.store={inside}?"
            raise UserError(f"{store}: no prepared cases; {cure}")
        value = read_json(path)
        check_format(value, path)
        with whole(path):
            x, y, z = value["spacing_mm"]
            return cls(
                Labels.from_json(value["labels"]),
                (x, y, z),
                tuple(Case.from_json(case) for case in value["cases"]),
                value["keys"],
                value["format"],
            )
