import os
from pathlib import Path

import pytest

from pipeline.dataset.cases import Case, check_patients, leave_out
from pipeline.errors import UserError


def case_of(name: str) -> Case:
    return Case(name, Path(f"images/{name}.nii"), None, name, "train")


def test_excluded_cases_are_left_out_and_the_order_stays() -> None:
    assert [case.name for case in leave_out([case_of("c"), case_of("a"), case_of("b")], ("a",))] == ["c", "b"]


def test_an_excluded_name_that_is_not_there_is_refused_with_one_like_it() -> None:
    with pytest.raises(UserError, match=r"data\.exclude: there is no case 'hn_01'.*did you mean 'hn_001'\?"):
        leave_out([case_of("hn_001"), case_of("xx")], ("hn_01",))


def test_leaving_out_every_case_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.exclude: all 1 cases are left out"):
        leave_out([case_of("a")], ("a",))


def test_json_and_back_gives_the_same_case_with_paths_that_hold_elsewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    case = Case("a", Path("images/a.nii"), Path("labels/a.nii"), "p", "test", "scanner 1")
    back = Case.from_json(case.to_json())
    assert back == Case("a", tmp_path / "images/a.nii", tmp_path / "labels/a.nii", "p", "test", "scanner 1")
    assert os.path.isabs(case.to_json()["image"])


def test_masks_come_back_from_json_with_paths_that_hold_elsewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    case = Case("a", Path("a/ct.nii"), {"liver": Path("a/liver.nii")}, "a", "validation")
    back = Case.from_json(case.to_json())
    assert back.label == {"liver": tmp_path / "a/liver.nii"}
    assert (back.split, back.has_masks) == ("validation", True)


def test_a_case_of_an_older_store_is_read() -> None:
    written = {"name": "a", "image": "/d/a.nii", "label": "/l/a.nii", "patient": "p", "split": "train", "group": ""}
    assert Case.from_json(written) == Case("a", Path("/d/a.nii"), Path("/l/a.nii"), "p", "train")


@pytest.mark.parametrize(
    ("label", "roles"),
    [
        (None, {"image": "ct.nii"}),
        (Path("a.nii"), {"image": "ct.nii", "label": "a.nii"}),
        ({}, {"image": "ct.nii"}),
        ({"x": Path("x.nii"), "y": Path("y.nii")}, {"image": "ct.nii", "label:x": "x.nii", "label:y": "y.nii"}),
    ],
)
def test_files_are_named_by_role(label, roles: dict[str, str]) -> None:
    case = Case("a", Path("ct.nii"), label, "a", "train")
    assert {role: path.name for role, path in case.files().items()} == roles


@pytest.mark.parametrize(("split", "prepared"), [("train", True), ("validation", True), ("test", False)])
def test_only_test_cases_are_kept_from_training(split, prepared: bool) -> None:
    assert Case("a", Path("a"), None, "a", split).is_for_training is prepared


@pytest.mark.parametrize(("one", "other"), [("train", "test"), ("train", "validation"), ("validation", "test")])
def test_a_patient_in_two_splits_is_refused_with_the_cases(one, other) -> None:
    cases = [Case("a", Path("a"), None, "p", one), case_of("b"), Case("c", Path("c"), None, "p", other)]
    with pytest.raises(UserError, match=rf"the patient 'p' has cases .*: a \({one}\), c \({other}\); .*data\.exclude"):
        check_patients(cases)
    check_patients(leave_out(cases, ("c",)))


def test_a_patient_may_have_several_cases_in_one_split() -> None:
    check_patients([Case(name, Path(name), None, "p", "test") for name in "ab"])
