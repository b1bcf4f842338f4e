"""Whether a store holds what was written: everything is read, where opening only looks."""

from pathlib import Path

from pipeline.dataset.checks import count_indices
from pipeline.errors import UserError
from pipeline.labels import IGNORE
from pipeline.store.catalogue import Catalogue
from pipeline.store.facts import VERIFIED
from pipeline.store.layout import case_folder
from pipeline.store.reader import PreparedCase


def verify(store: Path) -> list[str]:
    """Read all training and validation cases of a store; return a sentence for everything that is wrong with one.

    Files are compared with their sizes and hashes, and the labels with their counts and with the store's classes.
    A case that is not prepared is wrong, too. Raises UserError where there is no store.
    """
    catalogue = Catalogue.read(store)
    names = sorted(case.name for case in catalogue.cases if case.is_for_training and case.name in catalogue.keys)
    problems = []
    for name in names:
        try:
            verify_case(PreparedCase.open(case_folder(store, name)), catalogue.keys[name], len(catalogue.labels.names))
        except UserError as error:
            problems.append(str(error))
    return problems


def verify_case(case: PreparedCase, key: str, classes: int) -> None:
    """Raise UserError with the first thing that is wrong with a prepared case of the classes 1..`classes`."""
    case.check_hashes()
    if case.key != key:
        raise UserError(f"{case.folder}: not prepared as the data and the config stand; run prepare.")
    _, labels = case.read((0, 0, 0), case.grid.shape_vox)
    if count_indices(labels) != dict(case.counts):
        raise UserError(f"{case.folder}: the labels have other counts than case.json says; {VERIFIED}.")
    strange = [index for index in case.counts if index > classes and index != IGNORE]
    if strange:
        raise UserError(
            f"{case.folder}: class index {strange[0]}, but the store has {classes} classes; run prepare again."
        )
