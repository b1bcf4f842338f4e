"""Bring every training case to the training grid, once, where patches can be read from it quickly."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config.config import Config
from pipeline.dataset.cases import Case, check_patients, leave_out
from pipeline.dataset.checks import count_foreground, load_pair
from pipeline.dataset.layouts import declared_labels, find_cases
from pipeline.errors import UserError
from pipeline.files import hash_file, hash_json
from pipeline.formats.dispatch import stamps_of
from pipeline.labels import Labels
from pipeline.log import by, log, table
from pipeline.processes import workers_of
from pipeline.stages.data import encoding, label_key, labels_of, store_of
from pipeline.store.catalogue import Catalogue
from pipeline.store.classes import class_table, reason_against
from pipeline.store.layout import FORMAT, Compress, case_folder
from pipeline.store.reader import PreparedCase
from pipeline.store.verify import verify_case
from pipeline.store.writer import write_case
from pipeline.volume.grid import Float3, box_of
from pipeline.volume.resample import resample_labels, to_training_grid
from pipeline.work import Outcome, Unit, forget, of_shard, run_units

RENAMED_AFTER_S = 1.0
COLUMNS = ("case", "CT voxels", "CT mm", "prepared voxels", "classes", "put back")


@dataclass(frozen=True)
class Recipe:
    """What of the config decides what is stored of a case."""

    labels: Labels
    spacing_mm: Float3
    overlap: tuple[str, ...]
    compress: Compress


def run(config: Config) -> Outcome:
    """Prepare each training case as a unit, and print a table of them.

    What the store is to hold is written first, into its cases.json, so that a store that is not finished is known as
    such. Prepared cases that are no longer in the source stay on disk; nothing reads them.
    Raises UserError where the data set as a whole cannot be used.
    """
    if config.data.source is None:
        raise UserError("data.source: not set; expected a data set, as in data.source=/my/data (see docs/data.md).")
    labels = labels_of(config)
    tell_disagreement(config, labels)
    store = store_of(config)
    # Without classes in its config training takes the store's: then they must be those that the data set names now.
    stored = labels if config.labels is None else classes_to_store(store, labels, config.prepare.spacing_mm)
    found = find_cases(config.data.source, stored)
    kept = leave_out(found, config.data.exclude)
    check_patients(kept)
    cases = {case.name: case for case in kept if case.is_for_training}
    if not cases:
        raise UserError(
            f"data.source: {config.data.source} has no training case; make fewer of them test cases, or list fewer "
            "under data.exclude."
        )
    recipe = Recipe(stored, config.prepare.spacing_mm, config.data.overlap, config.store.compress)
    units = [unit_of(case, store, recipe) for case in cases.values()]
    Catalogue(stored, recipe.spacing_mm, tuple(found), {unit.name: unit.key for unit in units}).write(store)
    classes = len(stored.names) if config.prepare.verify else None
    forget_damaged(store, of_shard(units, config.prepare.shard), classes)
    make = partial(prepare_case, cases=cases, recipe=recipe)
    workers = workers_of(config.prepare.workers)
    outcome = run_units(store, units, make, workers=workers, shard=config.prepare.shard, what="prepare")
    standing = {*outcome.done, *outcome.skipped}
    seen = class_table(stored, labels, store)
    report([opened(unit).seen_as(seen) for unit in units if unit.name in standing], labels, store)
    return outcome


def classes_to_store(store: Path, labels: Labels, spacing_mm: Float3) -> Labels:
    """Return the classes to prepare: the store's, where there is one and `labels` can be taken from it, else `labels`.

    Cases that stand need not be made again then, and training takes its classes from the stored ones.
    """
    try:
        catalogue = Catalogue.read(store)
    except UserError:
        return labels
    stored, named = catalogue.labels, any(case.has_masks for case in catalogue.cases)
    if catalogue.format != FORMAT or catalogue.spacing_mm != spacing_mm or encoding(stored) == encoding(labels):
        return labels
    if reason_against(stored, labels) or (named and not labels.values.items() <= stored.values.items()):
        return labels
    log.info(
        "labels: %s can be taken from %s, which %s holds: its cases are kept as they are; for these classes alone "
        "prepare into another store, such as with work=FOLDER",
        *(dict(labels.values), dict(stored.values), store),
    )
    return stored


def forget_damaged(store: Path, units: Sequence[Unit], classes: int | None) -> None:
    """Have prepared cases made again that were cut short or altered since.

    classes: of the store, to read everything and compare hashes; None looks at sizes and times of change only.
    """
    for unit in units:
        if unit.output.exists():
            try:
                case = PreparedCase.open(unit.output)
                if classes is not None and case.key == unit.key:
                    verify_case(case, unit.key, classes)
            except UserError as error:
                log.warning("%s", error)
                forget(store, unit)


def opened(unit: Unit) -> PreparedCase:
    """Open a case that stands; another process that makes the same may be putting its own there at this moment."""
    try:
        return PreparedCase.open(unit.output)
    except UserError:
        time.sleep(RENAMED_AFTER_S)
        return PreparedCase.open(unit.output)


def tell_disagreement(config: Config, labels: Labels) -> None:
    """Log where the classes of the config are not those of the data set's own dataset.json."""
    assert config.data.source is not None
    own = declared_labels(config.data.source)
    if own is not None and (own.names != labels.names or encoding(own) != encoding(labels)):
        log.warning(
            "labels: the config's %s count, not those of %s: %s",
            *(dict(labels.values), config.data.source / "dataset.json", dict(own.values)),
        )


def unit_of(case: Case, store: Path, recipe: Recipe) -> Unit:
    """Return the unit of a case; its key holds all that changes a bit of what is stored, and nothing else."""
    key = {
        "format": FORMAT,
        "compress": recipe.compress,
        "spacing_mm": recipe.spacing_mm,
        "labels": label_key(case, recipe.labels, recipe.overlap),
        "files": stamps_of(case.files()),
    }
    return Unit(case.name, hash_json(key), case_folder(store, case.name))


def prepare_case(unit: Unit, temporary: Path, *, cases: Mapping[str, Case], recipe: Recipe) -> None:
    """Read, check and resample one case, and write it at `temporary`."""
    case = cases[unit.name]
    sources = {role: found for role, found in stamps_of(case.files()).items() if found}
    image, label = load_pair(case, recipe.labels, recipe.overlap)
    prepared, start, shape = to_training_grid(image, recipe.spacing_mm)
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
        compress=recipe.compress,
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
