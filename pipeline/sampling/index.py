"""Which cases can supply which output channel of the head."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import IGNORE, Labels
from pipeline.store.reader import PreparedCase


@dataclass(frozen=True)
class Source:
    """Where voxels of one output channel come from: their class indices in the store, and the cases that have one."""

    classes: tuple[int, ...]
    cases: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Index:
    """The prepared cases of a run, in order, and what each can supply. Make one with `build_index`.

    cases: name -> prepared case.
    labels: the classes of the cases.
    mirror: axes that are mirrored in half of the draws.
    sources: by foreground channel of the head.
    mirrored_sources: the same for draws mirrored on x, in which left and right classes exchange.
    annotated: names of the cases with at least one voxel that is not ignored.
    """

    cases: Mapping[str, PreparedCase]
    labels: Labels
    mirror: tuple[str, ...]
    sources: tuple[Source, ...]
    mirrored_sources: tuple[Source, ...]
    annotated: tuple[str, ...]


def build_index(cases: Sequence[PreparedCase], head: Head, mirror: Sequence[str] = ()) -> Index:
    """Look up which of `cases` can supply each foreground channel of `head`.

    Raises UserError where there is no case, and where a channel (or, with "x" in `mirror`, its swap partner) has no
    voxel in any case.
    """
    if not cases:
        raise UserError("data: no prepared case to train on; prepare at least one case with a label.")
    targets = [tuple(target) for target in head.targets]
    partners = [tuple(head.labels.swapped(index) for index in target) for target in targets]
    sources = find_sources(cases, targets, head.target_names)
    mirrored = find_sources(cases, partners, head.target_names) if "x" in mirror else sources
    annotated = tuple(case.name for case in cases if has_annotation(case))
    return Index({case.name: case for case in cases}, head.labels, tuple(mirror), sources, mirrored, annotated)


def find_sources(
    cases: Sequence[PreparedCase], targets: Iterable[tuple[int, ...]], names: Iterable[str]
) -> tuple[Source, ...]:
    """Return a source for each target; raises UserError that lists the targets without a case."""
    sources = tuple(Source(target, tuple(case.name for case in cases if has_any(case, target))) for target in targets)
    lacking = [name for name, source in zip(names, sources, strict=True) if not source.cases]
    if lacking:
        raise UserError(
            f"labels: none of the {len(cases)} training cases has a voxel to draw for {', '.join(lacking)}; expected "
            "at least one case. Take the name out of `labels`, merge it into another class, or add a case that has it."
        )
    return sources


def has_any(case: PreparedCase, classes: Iterable[int]) -> bool:
    """True where a case has a voxel of at least one of some class indices."""
    return any(case.counts.get(index, 0) for index in classes)


def has_annotation(case: PreparedCase) -> bool:
    """True where at least one voxel of a case is not ignored."""
    x, y, z = case.grid.shape_vox
    return case.counts.get(IGNORE, 0) < x * y * z
