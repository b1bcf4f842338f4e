"""Bring every training case to the training grid, once, where patches can be read from it quickly."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config.config import Config
from pipeline.dataset.cases import Case, leave_out
from pipeline.dataset.checks import count_foreground, load_pair
from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.errors import UserError
from pipeline.files import hash_file, hash_json, stamp
from pipeline.labels import Labels
from pipeline.log import log, table
from pipeline.stages.data import encoding, labels_of, store_of
from pipeline.store.catalogue import Catalogue
from pipeline.store.layout import FORMAT, case_folder
from pipeline.store.reader import PreparedCase
from pipeline.store.writer import write_case
from pipeline.volume.grid import Float3, Int3, box_of
from pipeline.volume.resample import resample_labels, to_training_grid
from pipeline.work import Outcome, Unit, available_cores, run_units

COLUMNS = ("case", "CT voxels", "CT mm", "prepared voxels", "classes", "put back")


def run(config: Config) -> Outcome:
    """Prepare each training case as a unit, and print a table of them.

    What the store is to hold is written first, into its cases.json, so that a store that is not finished is known as
    such. Prepared cases that are no longer in the source stay on disk; nothing reads them.
    Raises UserError where the data set as a whole cannot be used.
    """
    if config.data.source is None:
        raise UserError("data.source: not set; expected a folder with images/ and labels/, as in data.source=/my/data.")
    labels = labels_of(config)
    tell_disagreement(config, labels)
    store, spacing_mm = store_of(config), config.prepare.spacing_mm
    found = find_cases(config.data.source, labels)
    cases = {case.name: case for case in leave_out(found, config.data.exclude) if case.split == "train"}
    if not cases:
        raise UserError(
            f"data.source: {config.data.source} has no training case; list fewer under 'test' or data.exclude."
        )
    units = [unit_of(case, store, labels, spacing_mm) for case in cases.values()]
    Catalogue(labels, spacing_mm, tuple(found), {unit.name: unit.key for unit in units}).write(store)
    make = partial(prepare_case, cases=cases, labels=labels, spacing_mm=spacing_mm)
    workers = available_cores() if config.prepare.workers == "auto" else config.prepare.workers
    outcome = run_units(store, units, make, workers=workers, shard=config.prepare.shard, what="prepare")
    standing = {*outcome.done, *outcome.skipped}
    report([PreparedCase.open(unit.output) for unit in units if unit.name in standing], labels, store)
    return outcome


def tell_disagreement(config: Config, labels: Labels) -> None:
    """Log where the classes of the config are not those of the data set's own dataset.json."""
    assert config.data.source is not None
    own = read_labels(config.data.source)
    if own is not None and (own.names != labels.names or encoding(own) != encoding(labels)):
        log.warning(
            "labels: the config's %s count, not those of %s: %s",
            *(dict(labels.values), config.data.source / "dataset.json", dict(own.values)),
        )


def unit_of(case: Case, store: Path, labels: Labels, spacing_mm: Float3) -> Unit:
    """Return the unit of a case; its key holds all that changes a bit of what is stored, and nothing else."""
    key = {
        "format": FORMAT,
        "spacing_mm": spacing_mm,
        "labels": encoding(labels),
        "files": {role: stamp(path) if path.exists() else None for role, path in files_of(case).items()},
    }
    return Unit(case.name, hash_json(key), case_folder(store, case.name))


def files_of(case: Case) -> dict[str, Path]:
    """Return the files of a case by what they are."""
    return {"image": case.image} | ({} if case.label is None else {"label": case.label})


def prepare_case(unit: Unit, temporary: Path, *, cases: Mapping[str, Case], labels: Labels, spacing_mm: Float3) -> None:
    """Read, check and resample one case, and write it at `temporary`."""
    case = cases[unit.name]
    sources = {role: stamp(path) for role, path in files_of(case).items() if path.exists()}
    image, label = load_pair(case, labels)
    prepared, start, shape = to_training_grid(image, spacing_mm)
    body = np.ascontiguousarray(label.voxels[box_of(start, shape)])
    lost = count_foreground(label.voxels) - count_foreground(body)
    if lost:
        log.warning("%s: %d labelled voxels lie in the air around the body and were cut off", case.name, lost)
    encoded, put_back = resample_labels(body, image.grid.crop(start, shape), prepared.grid)
    write_case(
        *(temporary, case.name, prepared, encoded),
        key=unit.key,
        source_grid=image.grid,
        crop=(start, shape),
        put_back=put_back,
        sources={role: source | {"sha256": hash_file(Path(source["path"]))} for role, source in sources.items()},
    )


def report(cases: Sequence[PreparedCase], labels: Labels, store: Path) -> None:
    """Print the table of the prepared cases, and warn of empty cases and of classes that no case has."""
    if not cases:
        return
    table(f"{len(cases)} prepared cases in {store}", COLUMNS, [row_of(case, labels) for case in cases])
    indices = range(1, len(labels.names) + 1)
    empty = [case.name for case in cases if not any(case.counts.get(index) for index in indices)]
    if empty:
        log.warning("%d of %d cases have an empty label: %s", len(empty), len(cases), ", ".join(empty))
    lacking = [name for name, index in zip(labels.names, indices, strict=True)
               if not any(case.counts.get(index) for case in cases)]  # fmt: skip
    if lacking:
        log.warning("no case has a voxel of %s: training will refuse to start", ", ".join(lacking))


def row_of(case: PreparedCase, labels: Labels) -> list[object]:
    """Return the line of a case in the table."""
    present = sum(1 for index in range(1, len(labels.names) + 1) if case.counts.get(index))
    spacing = " x ".join(f"{s:.3g}" for s in case.source_grid.spacing_mm)
    return [
        *(case.name, by(case.source_grid.shape_vox), spacing, by(case.grid.shape_vox)),
        *(f"{present} of {len(labels.names)}", sum(case.put_back.values())),
    ]


def by(shape_vox: Int3) -> str:
    """Return a size in words."""
    return " x ".join(str(size) for size in shape_vox)
