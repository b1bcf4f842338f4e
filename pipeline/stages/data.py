"""What a config says about the data: which classes, which cases, which store."""

from pathlib import Path
from typing import Any

from pipeline.config.config import Config
from pipeline.dataset.cases import Case, leave_out
from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.errors import UserError
from pipeline.labels import Labels
from pipeline.store.catalogue import Catalogue
from pipeline.store.reader import PreparedCase, open_store
from pipeline.work import WorkFolder


def store_of(config: Config) -> Path:
    """Return the folder of the prepared cases: data.store, else that of the work folder."""
    return config.data.store or WorkFolder(config.work).store


def labels_of(config: Config) -> Labels:
    """Return the classes: of the config, else of data.source's dataset.json; without data.source those of the store.

    Raises UserError where none of them names any.
    """
    if config.labels is not None:
        return config.labels.build()
    if config.data.source is None:
        return Catalogue.read(store_of(config)).labels
    labels = read_labels(config.data.source)
    if labels is None:
        raise UserError(
            f"labels: neither the config nor {config.data.source / 'dataset.json'} names any class; add for example "
            "labels: {background: 0, liver: 1}."
        )
    return labels


def cases_of(config: Config) -> list[Case]:
    """Return the cases, training and test, of data.source, without it those of the store; data.exclude is left out.

    Raises UserError where there are none, or data.exclude names one that is not there.
    """
    if config.data.source is None:
        cases = list(Catalogue.read(store_of(config)).cases)
    else:
        cases = find_cases(config.data.source, labels_of(config))
    return leave_out(cases, config.data.exclude)


def training_cases(config: Config) -> tuple[Labels, list[Case], list[PreparedCase]]:
    """Return the classes, and the training cases and their prepared form in the same order, sorted by name.

    Only the store is looked at, never data.source. Classes of the config may differ from the store's in what does not
    change a prepared voxel: names, swap, regions.
    Raises UserError where the store was prepared for other values or another spacing, or is not complete.
    """
    store = store_of(config)
    catalogue = Catalogue.read(store)
    labels = catalogue.labels if config.labels is None else config.labels.build()
    if encoding(labels) != encoding(catalogue.labels):
        raise UserError(
            f"labels: {dict(labels.values)} are not those that {store} was prepared for, "
            f"{dict(catalogue.labels.values)}; run prepare again, or use another store."
        )
    if config.prepare.spacing_mm != catalogue.spacing_mm:
        raise UserError(
            f"prepare.spacing_mm: {list(config.prepare.spacing_mm)}, but {store} was prepared at "
            f"{list(catalogue.spacing_mm)}; run prepare again, or set prepare.spacing_mm to that."
        )
    prepared = open_store(store, config.data.exclude)
    by_name = {case.name: case for case in catalogue.cases}
    return labels, [by_name[case.name] for case in prepared], prepared


def encoding(labels: Labels) -> dict[str, Any]:
    """Return what of the classes decides the voxels of a prepared label map, as JSON values."""
    return {
        "values": [sorted(given) for given in labels.values.values()],
        "ignore": labels.ignore,
        "background": sorted(labels.background),
    }
