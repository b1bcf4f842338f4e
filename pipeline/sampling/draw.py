"""Which patch is drawn: a pure function of (seed, step, slot) and the ordered cases."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from pipeline.config.sample import SampleSection
from pipeline.labels import IGNORE
from pipeline.sampling.index import Index, Source
from pipeline.store.reader import PreparedCase
from pipeline.volume.grid import Int3

Key = tuple[int, int, int]

PLACEMENT, SPATIAL, INTENSITY = range(3)  # streams of random numbers: a change in one leaves the others as they are
QUICK_ATTEMPTS = 50


@dataclass(frozen=True)
class Draw:
    """One patch to make.

    case: name of the prepared case.
    label: class index (1..n) that the finished patch has at `place_vox`; None where the slot guarantees none.
    voxel: the voxel of the case that comes to lie at `place_vox`.
    place_vox: position in the patch.
    mirror: whether x, y, z are mirrored.
    key: (seed, step, slot), from which every random number of this patch comes.
    """

    case: str
    label: int | None
    voxel: Int3
    place_vox: Int3
    mirror: tuple[bool, bool, bool]
    key: Key


def generator(key: Key, stream: int) -> np.random.Generator:
    """Return the random numbers of one stream of one patch.

    Philox is counter-based (Salmon et al. 2011): the seed and step are its key, slot and stream the upper words of its
    counter, so that no two patches share a number and none depends on what was drawn before.
    """
    seed, step, slot = key
    return np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, stream, slot]))


def positive_slots(sample: SampleSection) -> int:
    """Return how many slots of a step, the first ones, hold a target class for certain: at least one."""
    return max(1, ceil(sample.positive * sample.batch - 1e-9))


def draw(index: Index, sample: SampleSection, seed: int, step: int, slot: int) -> Draw:
    """Choose the patch of one slot of a step.

    The order: mirror or not, for each axis asked for; the target class, uniform over the head's foreground channels;
    its source class, the swap partner if mirrored on x; a case that has it, uniform; a voxel of it, uniform over the
    store's coordinates; its position in the patch, uniform over the central half along each axis. Slots from
    `positive_slots` on take a case and any annotated voxel of it instead. Pure: the same arguments, the same draw.
    """
    key = (seed, step, slot)
    random = generator(key, PLACEMENT)
    flips = random.random(3) < 0.5
    x, y, z = (bool(flip) and axis in index.mirror for flip, axis in zip(flips, "xyz", strict=True))
    label: int | None = None
    if slot < positive_slots(sample):
        sources = index.mirrored_sources if x else index.sources
        name, found, voxel = draw_positive(index, sources[random.integers(len(sources))], random)
        label = index.labels.swapped(found) if x else found
    else:
        name = index.annotated[random.integers(len(index.annotated))]
        voxel = draw_annotated(index.cases[name], random)
    return Draw(name, label, voxel, draw_place(sample.patch_vox, random), (x, y, z), key)


def draw_positive(index: Index, source: Source, random: np.random.Generator) -> tuple[str, int, Int3]:
    """Return a case of a source, one of its voxels, and the class index of that voxel in the store."""
    name = source.cases[random.integers(len(source.cases))]
    case = index.cases[name]
    present = [label for label in source.classes if case.counts.get(label, 0)]
    ends = np.cumsum([case.stored_foreground[label] for label in present])
    chosen = int(random.integers(ends[-1]))
    which = int(np.searchsorted(ends, chosen, side="right"))
    label = present[which]
    return name, label, case.foreground_voxel(label, chosen - int(ends[which]) + case.stored_foreground[label])


def draw_annotated(case: PreparedCase, random: np.random.Generator) -> Int3:
    """Return a voxel of a case, uniform over those that are not ignored."""
    shape = case.grid.shape_vox
    voxel = int3(random.integers(shape))
    if not case.counts.get(IGNORE, 0):
        return voxel
    for _ in range(QUICK_ATTEMPTS):
        if case.read(voxel, (1, 1, 1))[1].item() != IGNORE:
            return voxel
        voxel = int3(random.integers(shape))
    labels = case.read((0, 0, 0), shape)[1]  # rarely: nearly all of the case is ignored
    annotated = np.flatnonzero(labels != IGNORE)
    return int3(np.unravel_index(annotated[random.integers(len(annotated))], shape))


def draw_place(patch_vox: Int3, random: np.random.Generator) -> Int3:
    """Return a position in the central half of a patch: off centre, but with context on every side."""
    return int3([random.integers(size // 4, size - size // 4) for size in patch_vox])


def int3(values: np.ndarray | tuple | list) -> Int3:
    """Return three numbers as plain integers."""
    x, y, z = (int(value) for value in values)
    return x, y, z
