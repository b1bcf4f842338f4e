from pathlib import Path

import pytest

from pipeline.dataset.cases import Case
from pipeline.dataset.description import Description
from pipeline.errors import UserError
from pipeline.labels import Labels

SPLITS = ("test", "validation")
CASES = [Case(name, Path(f"{name}.nii"), None, name, "train") for name in ("case_1", "case_2", "case_3")]


def test_there_need_not_be_one(tmp_path: Path) -> None:
    assert Description.read(tmp_path).content == {}


def test_what_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("[1]")
    with pytest.raises(UserError, match=r"dataset\.json: expected an object .*, found list"):
        Description.read(tmp_path)


def test_patients_and_groups_are_those_named_and_each_other_case_is_its_own_patient(describe) -> None:
    described = describe(patients={"case_1": "p", "case_2": "p"}, groups={"case_2": "scanner B"})
    cases = described.annotate(CASES, SPLITS)
    assert [case.patient for case in cases] == ["p", "p", "case_3"]
    assert [case.group for case in cases] == ["", "scanner B", ""]


def test_a_list_of_a_split_that_is_not_asked_for_is_not_read(describe) -> None:
    described = describe(test=["imagesTs/a.nii"], validation=["case_2"])
    assert [case.split for case in described.annotate(CASES, ("validation",))] == ["train", "validation", "train"]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"test": ["case_4"]}, r"dataset\.json: test: there is no case 'case_4' among 3; did you mean 'case_\d'\?"),
        ({"test": ["xyz"]}, r"dataset\.json: test: there is no case 'xyz' among 3; expected names such as 'case_1'"),
        ({"validation": ["xyz"]}, r"dataset\.json: validation: there is no case 'xyz'"),
        ({"patients": {"case1": "p"}}, r"patients: there is no case 'case1'.*did you mean 'case_1'\?"),
        ({"groups": {"xyz": "p"}}, r"groups: there is no case 'xyz'"),
        ({"test": "case_1"}, r"dataset\.json: test is 'case_1'; expected a list of case names"),
        ({"validation": [1]}, r"validation is \[1\]; expected a list of case names"),
        ({"patients": ["case_1"]}, r"patients is \['case_1'\]; expected an object of case name: patient"),
        ({"groups": {"case_1": 7}}, "expected an object of case name: group"),
        ({"test": ["case_1"], "validation": ["case_1"]}, "case_1 is in both test and validation; list it in one"),
    ],
)
def test_a_wrong_key_is_refused(describe, keys, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        describe(**keys).annotate(CASES, SPLITS)


def labels_of(described: Description) -> Labels:
    return described.build_labels(described.label_values())


def test_classes_are_read_with_merged_values_background_and_ignore(describe) -> None:
    described = describe(labels={"background": [0, 9], "lung": [3, 4], "heart": 2, "ignore": 255}, swap=[])
    assert labels_of(described) == Labels({"lung": (3, 4), "heart": (2,)}, ignore=255, background=(0, 9))


def test_classes_may_stand_under_their_values_as_in_the_decathlon(describe) -> None:
    described = describe(labels={"0": "Background", "1": "liver", "7": "vessel", "3": "vessel"})
    assert labels_of(described) == Labels({"liver": (1,), "vessel": (7, 3)})


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"labels": {"0": "background", "x": "liver"}}, r"labels\.0 is 'background'; expected an integer or a list"),
        ({"labels": {"liver": 1.0}}, r"labels\.liver is 1\.0; expected an integer"),
        ({"labels": {"liver": True}}, r"labels\.liver is True; expected an integer"),
        ({"labels": ["liver"]}, "labels is .*; expected an object of class name: value"),
        ({"labels": {"a": 1, "b": 1}}, r"dataset\.json: labels: value 1 belongs to both a and b"),
        ({"labels": {"background": 0}}, r"dataset\.json: labels: 0 foreground classes"),
        ({"labels": {"a": 1, "ignore": [254, 255]}}, r"dataset\.json: labels\.ignore: 2 values; give one"),
        ({"labels": {"a": 1}, "swap": [["a", "b"]]}, r"dataset\.json: labels: swap .* names 'b'"),
        ({"labels": {"a": 1}, "swap": [["a"]]}, "swap is .*; expected a list of pairs of class names"),
    ],
)
def test_wrong_classes_are_refused(describe, keys, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        labels_of(describe(**keys))
