"""What a config says about the data: which classes, which cases, which store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config.config import Config
from pipeline.dataset.cases import Case, check_patients, leave_out
from pipeline.dataset.layouts import find_cases, finder_of, read_labels
from pipeline.errors import UserError
from pipeline.labels import Labels
from pipeline.store.catalogue import Catalogue
from pipeline.store.classes import class_table
from pipeline.store.reader import PreparedCase, open_store
from pipeline.work import WorkFolder


def store_of(config: Config) -> Path:
    """Return the folder of the prepared cases: data.store, else that of the work folder."""
    return config.data.store or WorkFolder(config.work).store


def labels_of(config: Config) -> Labels:
    """Return the classes: of the config, else of the data set; without data.source those of the store.

    Raises UserError where none of them names any, and where data.overlap names a class that is not there.
    """
    labels = chosen_labels(config)
    labels.indices_of(config.data.overlap, "data.overlap")
    return labels


def chosen_labels(config: Config) -> Labels:
    """Return the classes of the first that names any."""
    if config.labels is not None:
        return config.labels.build()
    if config.data.source is None:
        return Catalogue.read(store_of(config)).labels
    labels = read_labels(config.data.source)
    if labels is None:
        finder_of(config.data.source)  # that the source is of no known layout is to be said first
        raise UserError(
            f"labels: neither the config nor {config.data.source} names any class; add to the config "
            "for example labels: {background: 0, liver: 1}."
        )
    return labels


def cases_of(config: Config) -> list[Case]:
    """Return `every_case_of` but those in data.exclude.

    Raises UserError where there are none, or data.exclude names one that is not there.
    """
    return leave_out(every_case_of(config), config.data.exclude)


def every_case_of(config: Config) -> list[Case]:
    """Return the cases, training and test, of data.source, without it those of the store."""
    if config.data.source is None:
        return list(Catalogue.read(store_of(config)).cases)
    return find_cases(config.data.source, labels_of(config))


def training_cases(config: Config) -> tuple[Labels, list[Case], list[PreparedCase]]:
    """Return the classes, and the training cases and their prepared form in the same order, sorted by name.

    Only the store is looked at, never data.source. Classes of the config may be some of the store's, or several of
    them as one, and differ in names, swap and regions; but a name that a mask was found by keeps its values.
    Raises UserError where they cannot be taken from the store's, or the store has another spacing, is not complete, or
    has a patient in two splits.
    """
    store = store_of(config)
    catalogue = Catalogue.read(store)
    labels = catalogue.labels if config.labels is None else config.labels.build()
    named = any(case.has_masks for case in catalogue.cases)
    table = class_table(catalogue.labels, labels, store, named=named)
    if config.prepare.spacing_mm != catalogue.spacing_mm:
        raise UserError(
            f"prepare.spacing_mm: {list(config.prepare.spacing_mm)}, but {store} was prepared at "
            f"{list(catalogue.spacing_mm)}; run prepare again, or set prepare.spacing_mm to that."
        )
    check_patients(leave_out(catalogue.cases, config.data.exclude))
    prepared = [case.seen_as(table) for case in open_store(store, config.data.exclude)]
    by_name = {case.name: case for case in catalogue.cases}
    return labels, [by_name[case.name] for case in prepared], prepared


def encoding(labels: Labels, *, named: bool = False) -> dict[str, Any]:
    """Return what of the classes decides the voxels of a prepared label, as JSON values.

    named: whether names do, as they do where a structure's mask is found by them.
    """
    return {
        "values": [sorted(given) for given in labels.values.values()],
        "ignore": labels.ignore,
        "background": sorted(labels.background),
    } | ({"names": list(labels.names)} if named else {})


def label_key(case: Case, labels: Labels, overlap: Sequence[str]) -> dict[str, Any]:
    """Return what of the config decides the voxels of a case's prepared label, as JSON values."""
    return encoding(labels, named=case.has_masks) | ({"overlap": list(overlap)} if case.has_masks else {})
