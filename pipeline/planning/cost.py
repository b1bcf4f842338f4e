"""What a training step costs, as a straight line in the voxels of a batch; and what it may cost."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from pipeline.config.net import NetSection
from pipeline.volume.grid import Int3

GIB = 2**30


@dataclass(frozen=True)
class Trial:
    """A training step to be measured: the network, the patch along x, y, z, and the patches in a batch."""

    net: NetSection
    patch_vox: Int3
    batch: int

    @property
    def voxels(self) -> int:
        x, y, z = self.patch_vox
        return x * y * z * self.batch


@dataclass(frozen=True)
class Cost:
    """What a step was measured to cost.

    memory_bytes: the most that network, optimiser, loss and batch held. program_bytes: what the process held before
    there was a network, on a GPU none. seconds: of the quickest of some steps after the first.
    """

    memory_bytes: int
    program_bytes: int
    seconds: float


Measure = Callable[[Trial], Cost | None]  # None where memory did not suffice


def remembering(measure: Measure) -> Measure:
    """Return a function that measures each trial once."""
    known: list[tuple[Trial, Cost | None]] = []

    def recall(trial: Trial) -> Cost | None:
        for other, cost in known:
            if other == trial:
                return cost
        known.append((trial, measure(trial)))
        return known[-1][1]

    return recall


@dataclass(frozen=True)
class Limits:
    """What a step may cost. memory_bytes: of the network; the program's own is taken off. seconds: None is no limit."""

    memory_bytes: float
    seconds: float | None


@dataclass(frozen=True)
class Line:
    """A cost that rises with the voxels of a batch: fixed + each * voxels."""

    fixed: float
    each: float

    @classmethod
    def through(cls, first: tuple[int, float], second: tuple[int, float]) -> "Line":
        """Return the line through two measurements, each (voxels, cost).

        Where more voxels did not cost more (noise on something small) or there is one size only, the larger
        measurement counts as in proportion to its voxels: a guess on the safe side for what is small.
        """
        (few, low), (many, high) = sorted((first, second))
        if many > few and high > low:
            each = (high - low) / (many - few)
            return cls(low - each * few, each)
        return cls(0.0, max(low, high) / many)

    def at(self, voxels: float) -> float:
        """Return the cost of so many voxels."""
        return self.fixed + self.each * voxels

    def voxels_within(self, limit: float | None) -> float:
        """Return how many voxels the limit allows, 0 where not even the fixed part fits, infinity without a limit."""
        return inf if limit is None else max(0.0, (limit - self.fixed) / self.each)


@dataclass(frozen=True)
class CostModel:
    """What a step of any size is predicted to cost, from two that were measured.

    Memory is a line through both. Seconds grow in proportion from the larger one: a small step says more of what else
    the machine does than of the network, and what is fixed in a step counts as if it grew, which is on the safe side.
    """

    memory_bytes: Line
    seconds: Line

    @classmethod
    def of(cls, small: tuple[Trial, Cost], large: tuple[Trial, Cost]) -> "CostModel":
        """Return what two trials, and what each was measured to cost, say."""
        (one, first), (other, second) = small, large
        memory = Line.through((one.voxels, first.memory_bytes), (other.voxels, second.memory_bytes))
        return cls(memory, Line(0.0, second.seconds / other.voxels))

    def by_memory(self, limits: Limits) -> float:
        """Return the voxels of a batch that the memory allows."""
        return self.memory_bytes.voxels_within(limits.memory_bytes)

    def by_time(self, limits: Limits) -> float:
        """Return the voxels of a batch that the time allows."""
        return self.seconds.voxels_within(limits.seconds)

    def within(self, limits: Limits) -> float:
        """Return the voxels of a batch that both limits allow."""
        return min(self.by_memory(limits), self.by_time(limits))
