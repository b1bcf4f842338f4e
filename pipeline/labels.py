"""Which structures there are, which values stand for them in the user's files, and how the two are exchanged."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from pipeline.errors import UserError

IGNORE = 255  # the encoded value of a voxel that no loss and no score may look at
MOST_CLASSES = 254
VALUES = range(-(2**31), 2**31)  # what a label file can hold: int32


@dataclass(frozen=True)
class Region:
    """A union of classes that has an output channel of its own, and the class whose value is written for it."""

    name: str
    classes: tuple[str, ...]
    write: str


@dataclass(frozen=True)
class Labels:
    """The classes of a data set.

    values: foreground class name -> the values that stand for it in label files, the first one is what is written.
        The class at position i (from 0) has the encoded index i + 1; 0 is background.
    regions: unions of classes for the `regions` head, in the order in which they are written.
    ignore: the value in label files of voxels without annotation, or None.
    swap: pairs of class names that exchange when left and right are mirrored.
    background: the values in label files that mean "none of these".
    """

    values: Mapping[str, tuple[int, ...]]
    regions: tuple[Region, ...] = ()
    ignore: int | None = None
    swap: tuple[tuple[str, str], ...] = ()
    background: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        values = {name: as_tuple(given) for name, given in self.values.items()}
        background = values.pop("background", as_tuple(self.background))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "background", background)
        object.__setattr__(self, "swap", tuple((a, b) for a, b in self.swap))
        object.__setattr__(self, "regions", tuple(self.regions))
        self._check()

    def _check(self) -> None:
        if not 1 <= len(self.values) <= MOST_CLASSES:
            raise UserError(f"labels: {len(self.values)} foreground classes; 1 to {MOST_CLASSES} are possible.")
        owner: dict[int, str] = {}
        sets = {"background": self.background, **self.values}
        if self.ignore is not None:
            sets["ignore"] = (self.ignore,)
        for name, given in sets.items():
            if not given:
                raise UserError(f"labels.{name}: no value; give at least one integer.")
            for value in given:
                if value not in VALUES:
                    raise UserError(f"labels.{name}: value {value}; expected {VALUES[0]} to {VALUES[-1]} (int32).")
                if value in owner:
                    raise UserError(
                        f"labels: value {value} belongs to both {owner[value]} and {name}; give it to one of them."
                    )
                owner[value] = name
        named: list[tuple[str, tuple[str, ...]]] = [(f"swap {list(pair)}", pair) for pair in self.swap]
        named += [(f"region {region.name}", (*region.classes, region.write)) for region in self.regions]
        for what, names in named:
            for name in names:
                if name not in self.values:
                    raise UserError(f"labels: {what} names {name!r}, which is none of {', '.join(self.values)}.")
        swapped = [name for pair in self.swap for name in pair]
        if len(set(swapped)) != len(swapped):
            raise UserError(f"labels.swap: a class stands in more than one pair: {list(self.swap)}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Foreground class names; names[i] has the encoded index i + 1."""
        return tuple(self.values)

    def index(self, name: str) -> int:
        """Return the encoded index (1..n) of a class."""
        return self.names.index(name) + 1

    def indices_of(self, names: Sequence[str] | Literal["all"], key: str) -> list[int]:
        """Return the encoded indices of some classes, or of all. Raises UserError, with `key`, for unknown names."""
        unknown = [] if names == "all" else [name for name in names if name not in self.values]
        if unknown:
            raise UserError(f"{key}: {', '.join(unknown)} is no class; expected some of {', '.join(self.names)}.")
        return [self.index(name) for name in (self.names if names == "all" else names)]

    def swapped(self, index: int) -> int:
        """Return the encoded index that `index` turns into when left and right are mirrored."""
        if not 1 <= index <= len(self.values):
            return index
        name = self.names[index - 1]
        for first, second in self.swap:
            if name in (first, second):
                return self.index(second if name == first else first)
        return index

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; JSON values, but for tuples in place of lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Labels":
        """Make labels of what `to_json` gave. Raises KeyError or TypeError where something is missing."""
        regions = tuple(Region(each["name"], tuple(each["classes"]), each["write"]) for each in given["regions"])
        return cls(given["values"], regions, given["ignore"], given["swap"], tuple(given["background"]))

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Map label values to class indices: any integer array -> uint8 of the same shape, 0..n, 255 where ignored.

        Raises UserError with the values that belong to no class, and how many voxels hold each.
        """
        known = dict.fromkeys(self.background, 0)
        known |= {value: index for index, given in enumerate(self.values.values(), 1) for value in given}
        if self.ignore is not None:
            known[self.ignore] = IGNORE
        found, counts = np.unique(raw, return_counts=True)
        strange = {int(v): int(n) for v, n in zip(found, counts, strict=True) if int(v) not in known}
        if strange:
            listed = ", ".join(f"{value} ({count} voxels)" for value, count in list(strange.items())[:8])
            more = f" and {len(strange) - 8} more" if len(strange) > 8 else ""
            raise UserError(
                f"label values {listed}{more} belong to no class; labels knows {sorted(known)}. Name them under "
                "`labels`, list them under `labels.background`, or set `labels.ignore` to a value to be left out."
            )
        if raw.size == 0:
            return np.zeros(raw.shape, np.uint8)
        low, high = int(found[0]), int(found[-1])
        if high - low < 65536:
            table = np.zeros(high - low + 1, np.uint8)
            for value in found:
                table[int(value) - low] = known[int(value)]
            return table[raw.astype(np.int64) - low]
        return np.array([known[int(v)] for v in found], np.uint8)[np.searchsorted(found, raw)]

    def restore(self, encoded: np.ndarray) -> np.ndarray:
        """Map class indices back to the user's values: uint8 -> the smallest integer type that holds them all.

        A merged class becomes the first of its values, ignored voxels become the ignore value.
        """
        written = [self.background[0], *(given[0] for given in self.values.values())]
        largest = max(*written, self.ignore or 0)
        smallest = min(*written, self.ignore or 0)
        types = (np.uint8, np.int16, np.uint16, np.int32)
        kind = next(t for t in types if np.iinfo(t).min <= smallest and largest <= np.iinfo(t).max)
        table = np.zeros(256, kind)
        table[: len(written)] = written
        table[IGNORE] = self.background[0] if self.ignore is None else self.ignore
        return table[encoded]


def as_tuple(given: int | tuple[int, ...] | list[int]) -> tuple[int, ...]:
    """Return one value or several as a tuple."""
    return (given,) if isinstance(given, int) else tuple(given)
