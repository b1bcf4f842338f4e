"""The folds that a plan writes: those that training will use."""

from pathlib import Path

import pytest

from pipeline.dataset.cases import Case
from pipeline.dataset.folds import fold_of
from pipeline.errors import UserError
from pipeline.planning.split import split_choices


def cases(patients: str, split: str = "train") -> list[Case]:
    return [Case(f"c{n}", Path("i"), Path("l"), patient, split) for n, patient in enumerate(patients)]  # type: ignore[arg-type]


def test_five_folds_are_listed_as_training_will_draw_them() -> None:
    listed = cases("abcdefg")
    present = {case.name: {1} for case in listed}
    chosen = split_choices(listed, present, None, seed=3)["data.folds"]
    assert chosen.value == 5
    for name, fold in fold_of(listed, 5, 3, present).items():
        line = next(line for line in chosen.reason.splitlines() if line.startswith(f"  {fold}:"))
        assert name in line


def test_few_patients_make_few_folds() -> None:
    assert split_choices(cases("aabbc"), {}, None, 0)["data.folds"].value == 3


def test_one_patient_holds_nothing_out() -> None:
    assert split_choices(cases("aaa"), {}, None, 0)["train.fold"].value == "all"


def test_validation_cases_of_the_data_set_are_the_fold() -> None:
    chosen = split_choices([*cases("ab"), *cases("c", "validation")], {}, None, 0)
    assert list(chosen) == ["train.fold"]
    assert chosen["train.fold"].value == 0


def test_more_folds_than_patients_get_their_sentence() -> None:
    with pytest.raises(UserError, match=r"data\.folds: 4 folds"):
        split_choices(cases("abc"), {}, 4, 0)
