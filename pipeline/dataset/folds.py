"""Which training case is held out in which fold."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from pipeline.dataset.cases import Case
from pipeline.errors import UserError

ANY = -1  # a class that every case has, so that folds are balanced by their number of cases as well


def held_out(
    cases: Sequence[Case],
    folds: int,
    seed: int,
    fold: int | Literal["all"],
    present: Mapping[str, Collection[int]] | None = None,
) -> frozenset[str]:
    """Return the names of the cases that are held out of training to choose the best model by; never test cases.

    Fold "all" holds out none: validation cases of the data set are trained on, too. Where the data set names
    validation cases these are fold 0, and there is no other; elsewhere the fold is one of `fold_of`.
    Raises UserError where there is no such fold.
    """
    if fold == "all":
        return frozenset()
    named = frozenset(case.name for case in cases if case.split == "validation")
    if not named:
        return frozenset(name for name, found in fold_of(cases, folds, seed, present).items() if found == fold)
    if fold > 0:
        raise UserError(
            f"train.fold: {fold}, but the data set names its {len(named)} validation cases itself; train.fold=0 holds "
            "out these, train.fold=all trains on them, too."
        )
    return named


def fold_count(cases: Iterable[Case], folds: int) -> int:
    """Return how many folds there are to train: `folds`, or one where the data set names its validation cases."""
    return 1 if any(case.split == "validation" for case in cases) else folds


def fold_of(
    cases: Iterable[Case], folds: int, seed: int, present: Mapping[str, Collection[int]] | None = None
) -> dict[str, int]:
    """Return the fold (0..folds - 1) of every case whose split is "train", by name.

    present: the classes that each case has; one that is not named has none. By default all have the same.
    All cases of a patient are in one fold. Patients are taken one after the other: those first whose rarest class is
    rarest, then those with more cases, then in an order drawn from the seed. Each goes to the fold that has the fewest
    cases with that class, then with the patient's next rarest, and so on, then the fewest cases. A fold that would
    exceed the smallest by more than the largest patient's cases is left out: that bounds how much sizes differ.
    The order is by hash and not by a random generator, so that it depends on no library and on no order of `cases`.
    Source of the method: iterative stratification, Sechidis et al., ECML PKDD 2011, here with patients for cases.
    Raises UserError where there are fewer patients than folds: a fold would be empty.
    """
    patient_of = {case.name: case.patient for case in cases if case.split == "train"}
    of_patient: dict[str, Counter[int]] = defaultdict(Counter)  # patient -> class -> cases that have it
    for name, patient in patient_of.items():
        of_patient[patient].update({ANY, *(present or {}).get(name, ())})
    if len(of_patient) < folds:
        raise UserError(
            f"data.folds: {folds} folds, but the training cases are of {len(of_patient)} patients only; "
            f"{'lower data.folds, or hold' if len(of_patient) > 1 else 'hold'} nothing out with train.fold=all."
        )
    everywhere = sum(of_patient.values(), Counter[int]())
    rarest_first = {
        patient: sorted(counts, key=lambda label: (everywhere[label], label)) for patient, counts in of_patient.items()
    }

    def turn(patient: str) -> tuple[int, int, bytes]:
        return everywhere[rarest_first[patient][0]], -of_patient[patient][ANY], seeded_hash(patient, seed)

    largest = max(counts[ANY] for counts in of_patient.values())
    filled = [Counter[int]() for _ in range(folds)]
    fold_of_patient = {}
    for patient in sorted(of_patient, key=turn):
        fold = emptiest(filled, of_patient[patient], rarest_first[patient], largest)
        fold_of_patient[patient] = fold
        filled[fold].update(of_patient[patient])
    return {name: fold_of_patient[patient] for name, patient in sorted(patient_of.items())}


def emptiest(filled: Sequence[Counter[int]], patient: Counter[int], rarest_first: Sequence[int], largest: int) -> int:
    """Return the fold that needs a patient most; an empty one as long as there is one."""
    least = min(fold[ANY] for fold in filled)
    most = 0 if least == 0 else least + largest - patient[ANY]
    allowed = [number for number, fold in enumerate(filled) if fold[ANY] <= most]
    return min(allowed, key=lambda number: [filled[number][label] for label in (*rarest_first, ANY)])


def seeded_hash(text: str, seed: int) -> bytes:
    """Return the SHA-256 of a text under a seed."""
    return hashlib.sha256(f"{seed} {text}".encode()).digest()
