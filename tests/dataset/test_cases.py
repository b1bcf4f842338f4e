import os
from pathlib import Path

import pytest

from pipeline.dataset.cases import Case, leave_out
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
