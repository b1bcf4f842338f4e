"""Which structures there are, which values stand for them in the user's files, and how the two are exchanged."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NoReturn

import numpy as np

from pipeline.errors import UserError

IGNORE = 255  # the encoded value of a voxel that no loss and no score may look at
MOST_CLASSES = 254
VALUES = range(-(2**31), 2**31)  # what a label file can hold: int32
UNKNOWN = 256  # the code, while encoding, of a value that belongs to no class
LARGEST_TABLE = 2**16  # values apart that a table is made for; it stays in the cache
SLAB_VOX = 2**18  # that are encoded at once; temporary arrays stay that small


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
        code_of = self._codes()
        encoded = np.empty(raw.shape, np.uint8)
        strange: Counter[int] = Counter()
        values, codes = raw.reshape(-1), encoded.reshape(-1)
        for start in range(0, raw.size, SLAB_VOX):
            slab = values[start : start + SLAB_VOX]
            found = code_of(slab)
            if found.max() == UNKNOWN:
                unknown, counts = np.unique(slab[found == UNKNOWN], return_counts=True)
                strange.update(dict(zip(unknown.tolist(), counts.tolist(), strict=True)))
            codes[start : start + SLAB_VOX] = found
        if strange:
            self._refuse(strange)
        return encoded

    def class_of_value(self) -> dict[int, int]:
        """Return the class index that every value in label files stands for."""
        known = dict.fromkeys(self.background, 0)
        known |= {value: index for index, given in enumerate(self.values.values(), 1) for value in given}
        return known if self.ignore is None else known | {self.ignore: IGNORE}

    def _codes(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function of label values (n,) to class indices or UNKNOWN, uint16 (n,)."""
        known = self.class_of_value()
        values = np.array(sorted(known))
        codes = np.array([known[value] for value in values.tolist()], np.uint16)
        if values[-1] - values[0] > LARGEST_TABLE:
            return partial(_search, values, codes)
        # One more on each side: that is what values outside are clipped to.
        table = np.full(values[-1] - values[0] + 3, UNKNOWN, np.uint16)
        first = values[0] - 1
        table[values - first] = codes
        return lambda given: table.take(given.astype(np.int64) - first, mode="clip")

    def _refuse(self, strange: Counter[int]) -> NoReturn:
        """Raise UserError with values that belong to no class, and how many voxels hold each."""
        listed = ", ".join(f"{value} ({strange[value]} voxels)" for value in sorted(strange)[:8])
        more = f" and {len(strange) - 8} more" if len(strange) > 8 else ""
        raise UserError(
            f"label values {listed}{more} belong to no class; labels knows {sorted(self.class_of_value())}. Name them "
            "under `labels`, list them under `labels.background`, or set `labels.ignore` to a value to be left out."
        )

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


def _search(values: np.ndarray, codes: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return the codes of given values, UNKNOWN for those that are not among the sorted `values`."""
    place = np.searchsorted(values, given).clip(max=len(values) - 1)
    return np.where(values[place] == given, codes[place], np.uint16(UNKNOWN))
