from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.cases import Case
from pipeline.dataset.folds import fold_count, fold_of, held_out
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


PATIENTS = st.lists(st.integers(0, 12), min_size=1, max_size=40)


@given(PATIENTS, st.integers(2, 6), st.integers(0, 2**32 - 1), st.sets(st.integers(1, 5)))
def test_where_all_cases_have_the_same_classes_folds_are_those_without_classes(patients, folds, seed, classes) -> None:
    cases = cases_of(patients)
    if len(set(patients)) >= folds:
        assert fold_of(cases, folds, seed, {case.name: classes for case in cases}) == fold_of(cases, folds, seed)


@given(st.data(), PATIENTS, st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_folds_by_class_are_disjoint_by_patient_balanced_and_complete(data, patients, folds, seed) -> None:
    cases, sizes = cases_of(patients), Counter(patients)
    if len(sizes) < folds:
        return
    present = {case.name: data.draw(st.sets(st.integers(1, 5))) for case in cases}
    fold = fold_of(cases, folds, seed, present)
    assert set(fold) == {case.name for case in cases}
    assert len({(case.patient, fold[case.name]) for case in cases}) == len(sizes)
    held = Counter(fold.values())
    assert set(held) == set(range(folds))
    assert max(held.values()) - min(held.values()) <= max(sizes.values())
    assert fold_of(cases[::-1], folds, seed, present) == fold


def test_a_data_set_that_names_its_validation_cases_has_one_fold() -> None:
    cases = cases_of([1, 2, 3])
    assert fold_count(cases, 5) == 5
    assert fold_count([*cases, replace(cases[0], name="named", split="validation")], 5) == 1


def spread(fold: dict[str, int], present: dict[str, Collection[int]], label: int) -> list[int]:
    """Return how many cases of each of five folds have a class, by rising number."""
    having = Counter(fold[name] for name, classes in present.items() if label in classes)
    return sorted(having[number] for number in range(5))


def test_cases_with_a_rare_class_are_spread_over_the_folds() -> None:
    """Of 40 cases 10 have class 2 and 5 have class 3: two and one a fold. Without their classes chance decides."""
    cases = cases_of(list(range(40)))
    present = {
        case.name: {1} | ({2} if n % 4 == 0 else set()) | ({3} if n % 8 == 1 else set()) for n, case in enumerate(cases)
    }
    for seed in range(5):
        fold = fold_of(cases, 5, seed, present)
        assert [spread(fold, present, label) for label in (1, 2, 3)] == [[8] * 5, [2] * 5, [1] * 5]
    assert any(spread(fold_of(cases, 5, seed), present, 3) != [1] * 5 for seed in range(5))


def test_a_class_in_one_case_only_leaves_the_others_balanced() -> None:
    cases = cases_of(list(range(10)))
    fold = fold_of(cases, 5, 0, {"case 3": {7}})
    assert fold["case 3"] == 0
    assert Counter(fold.values()) == dict.fromkeys(range(5), 2)


def with_validation(*names: str) -> list[Case]:
    cases = cases_of([0, 1, 2, 3, 4, 5], test=1)
    return [replace(case, split="validation") if case.name in names else case for case in cases]


def test_a_fold_is_held_out() -> None:
    cases = with_validation()
    held = [held_out(cases, 2, 0, fold) for fold in (0, 1)]
    assert held[0] | held[1] == {f"case {number}" for number in range(1, 6)}
    assert held[1] == {name for name, fold in fold_of(cases, 2, 0).items() if fold == 1}


def test_the_fold_all_holds_out_none_not_even_validation_cases() -> None:
    assert held_out(with_validation("case 2"), 2, 0, "all") == frozenset()


def test_validation_cases_of_the_data_set_are_fold_0() -> None:
    assert held_out(with_validation("case 2", "case 4"), 5, 0, 0) == {"case 2", "case 4"}


def test_there_is_no_other_fold_than_the_validation_cases() -> None:
    with pytest.raises(UserError, match=r"train\.fold: 1, but the data set names its 1 validation cases itself; train"):
        held_out(with_validation("case 2"), 5, 0, 1)


def test_validation_cases_are_in_no_drawn_fold() -> None:
    assert set(fold_of(with_validation("case 2"), 2, 0)) == {"case 1", "case 3", "case 4", "case 5"}
