from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.cases import Case
from pipeline.dataset.folds import fold_of
from pipeline.errors import UserError


def cases_of(patients: list[int], test: int = 0) -> list[Case]:
    """Return a case for each entry, of that patient; the first `test` of them are test cases."""
    return [
        Case(f"case {number}", Path("image"), None, f"p{patient}", "test" if number < test else "train")
        for number, patient in enumerate(patients)
    ]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_folds_are_disjoint_by_patient_balanced_and_complete(patients: list[int], folds: int, seed: int) -> None:
    cases = cases_of(patients)
    sizes = Counter(patients)
    if len(sizes) < folds:
        with pytest.raises(UserError, match=rf"data\.folds: {folds} folds.* {len(sizes)} patients only"):
            fold_of(cases, folds, seed)
        return
    fold = fold_of(cases, folds, seed)
    assert set(fold) == {case.name for case in cases}
    assert set(fold.values()) == set(range(folds))
    assert len({(case.patient, fold[case.name]) for case in cases}) == len(sizes)
    held = Counter(fold.values())
    assert max(held.values()) - min(held.values()) <= max(sizes.values())


@given(st.permutations(range(12)))
def test_the_order_of_the_cases_does_not_matter(order: list[int]) -> None:
    cases = cases_of([0, 0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8])
    assert fold_of([cases[i] for i in order], 4, 3) == fold_of(cases, 4, 3)


def test_folds_stay_what_they_were() -> None:
    """By sha256sum, the hashes of "0 a", "0 b" and "0 c" begin with cf, 84 and ed: b, a, c is the order of filling."""
    cases = [Case(name, Path("image"), None, name, "train") for name in "abc"]
    assert fold_of(cases, 3, 0) == {"a": 1, "b": 0, "c": 2}


def test_another_seed_gives_other_folds() -> None:
    cases = cases_of(list(range(20)))
    assert len({tuple(fold_of(cases, 5, seed).values()) for seed in range(5)}) > 1


def test_test_cases_are_in_no_fold() -> None:
    fold = fold_of(cases_of([0, 1, 2, 3], test=2), 2, 0)
    assert set(fold) == {"case 2", "case 3"}
