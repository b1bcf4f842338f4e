"""Which training case is held out in which fold."""

import hashlib
from collections import Counter
from collections.abc import Iterable

from pipeline.dataset.cases import Case
from pipeline.errors import UserError


def fold_of(cases: Iterable[Case], folds: int, seed: int) -> dict[str, int]:
    """Return the fold (0..folds - 1) of every training case by name; test cases are left out.

    All cases of a patient are in one fold. Patients are taken in an order drawn from the seed, those with more cases
    first, and each goes to the fold with the fewest cases: sizes differ by no more than the largest patient's cases.
    The order is by hash and not by a random generator, so that it depends on no library and on no order of `cases`.
    Raises UserError where there are fewer patients than folds: a fold would be empty.
    """
    patient_of = {case.name: case.patient for case in cases if case.split == "train"}
    sizes = Counter(patient_of.values())
    if len(sizes) < folds:
        raise UserError(
            f"data.folds: {folds} folds, but the training cases are of {len(sizes)} patients only; lower data.folds, "
            "or hold nothing out with train.fold=all."
        )
    filled = [0] * folds
    fold_of_patient: dict[str, int] = {}
    for patient in sorted(sizes, key=lambda patient: (-sizes[patient], seeded_hash(patient, seed))):
        fold = filled.index(min(filled))
        fold_of_patient[patient] = fold
        filled[fold] += sizes[patient]
    return {name: fold_of_patient[patient] for name, patient in sorted(patient_of.items())}


def seeded_hash(text: str, seed: int) -> bytes:
    """Return the SHA-256 of a text under a seed."""
    return hashlib.sha256(f"{seed} {text}".encode()).digest()
