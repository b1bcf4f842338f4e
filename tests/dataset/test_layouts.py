import json
from pathlib import Path

import pytest

from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.errors import UserError
from pipeline.labels import Labels

LABELS = Labels({"liver": (1,)})
HEAD_NECK = Path(__file__).parents[2] / "examples" / "head_neck"


def test_the_example_has_twelve_training_and_four_test_cases_with_its_classes() -> None:
    labels = read_labels(HEAD_NECK)
    assert labels is not None
    assert labels.values["Mandible"] == (5,)
    assert labels.swap == (("RightParotid", "LeftParotid"),)
    cases = find_cases(HEAD_NECK, labels)
    assert [case.name for case in cases if case.split == "test"] == ["hn_077", "hn_082", "hn_083", "hn_084"]
    assert sum(case.split == "train" for case in cases) == 12
    assert all(case.label is not None and case.label.is_file() for case in cases)


def test_image_and_label_are_paired_by_name_whatever_their_suffixes(make_source) -> None:
    source = make_source(["b.nii", "a.nii.gz", "c.NII.GZ"], ["a.nii", "b.nii.gz", "c.nii"])
    cases = find_cases(source, LABELS)
    assert [(case.name, case.image.name, case.label.name) for case in cases if case.label] == [
        ("a", "a.nii.gz", "a.nii"),
        ("b", "b.nii", "b.nii.gz"),
        ("c", "c.NII.GZ", "c.nii"),
    ]


@pytest.mark.parametrize("name", ["Fall 7 (links)", "große_Ähre", "患者１", "a.b-c", "it's"])
def test_spaces_and_letters_of_any_language_make_a_name(make_source, name: str) -> None:
    source = make_source([f"{name}.nii.gz"], [f"{name}.nii.gz"], {"test": [name]})
    (case,) = find_cases(source, LABELS)
    assert (case.name, case.split, case.patient) == (name, "test", name)


def test_hidden_files_and_files_of_other_kinds_are_not_cases(make_source) -> None:
    source = make_source(["a.nii.gz", ".b.nii.gz", "._a.nii.gz", "notes.txt", "c.nrrd"], ["a.nii.gz", ".DS_Store"])
    assert [case.name for case in find_cases(source, LABELS)] == ["a"]


def test_two_files_for_one_case_are_refused_with_both_named(make_source) -> None:
    source = make_source(["a.nii", "a.nii.gz"], ["a.nii.gz"])
    with pytest.raises(UserError, match=r"images/a\.nii and .*images/a\.nii\.gz are two files for the case 'a'"):
        find_cases(source, LABELS)


def test_two_label_files_for_one_case_are_refused_too(make_source) -> None:
    source = make_source(["a.nii"], ["a.nii", "a.nii.gz"])
    with pytest.raises(UserError, match=r"labels/a\.nii and .*labels/a\.nii\.gz are two files"):
        find_cases(source, LABELS)


def test_an_image_without_a_label_is_a_case_without_one(make_source) -> None:
    source = make_source(["a.nii", "b.nii"], ["a.nii"])
    assert [case.label is None for case in find_cases(source, LABELS)] == [False, True]


def test_a_label_without_an_image_is_left_out_with_a_warning(make_source, caplog) -> None:
    source = make_source(["a.nii"], ["a.nii", "b.nii"])
    assert [case.name for case in find_cases(source, LABELS)] == ["a"]
    assert "left out" in caplog.text
    assert "b.nii" in caplog.text


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (None, ["a.nii"], "has no folder images; expected images/ and labels/"),
        (["a.nii"], None, "has no folder labels; expected images/ and labels/"),
        ([], [], r"images: no \.nii or \.nii\.gz file"),
    ],
)
def test_a_missing_or_empty_folder_is_refused(make_source, images, labels, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find_cases(make_source(images, labels), LABELS)


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere has no folder images"):
        find_cases(tmp_path / "nowhere", LABELS)


def test_patients_group_cases_and_the_others_are_patients_of_their_own(make_source) -> None:
    source = make_source(["a.nii", "b.nii", "c.nii"], [], {"patients": {"a": "p1", "b": "p1"}})
    assert [case.patient for case in find_cases(source, LABELS)] == ["p1", "p1", "c"]


def test_a_patient_in_training_and_in_test_is_told(make_source, caplog) -> None:
    source = make_source(["a.nii", "b.nii"], [], {"patients": {"a": "p1", "b": "p1"}, "test": ["b"]})
    find_cases(source, LABELS)
    assert "patients with cases both in training and in test: p1" in caplog.text


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ({"test": ["case_2"]}, r"dataset\.json: test: there is no case 'case_2' among 1; did you mean 'case_1'\?"),
        ({"test": ["xyz"]}, r"dataset\.json: test: there is no case 'xyz' among 1; expected names such as 'case_1'"),
        ({"patients": {"case1": "p"}}, r"patients: there is no case 'case1'.*did you mean 'case_1'\?"),
        ({"test": "case_1"}, r"dataset\.json: test is 'case_1'; expected a list of case names"),
        ({"test": [1]}, r"test is \[1\]; expected a list of case names"),
        ({"patients": ["case_1"]}, r"patients is \['case_1'\]; expected an object of case name: patient"),
        ({"patients": {"case_1": 7}}, "expected an object of case name: patient"),
    ],
)
def test_a_wrong_key_of_the_description_is_refused(make_source, description, sentence: str) -> None:
    source = make_source(["case_1.nii"], ["case_1.nii"], description)
    with pytest.raises(UserError, match=sentence):
        find_cases(source, LABELS)


def test_a_description_that_is_no_object_is_refused(make_source) -> None:
    source = make_source(["a.nii"], ["a.nii"])
    (source / "dataset.json").write_text("[1]")
    with pytest.raises(UserError, match=r"dataset\.json: expected an object .*, found list"):
        find_cases(source, LABELS)


def test_classes_are_read_with_merged_values_background_and_ignore(make_source) -> None:
    description = {"labels": {"background": [0, 9], "lung": [3, 4], "heart": 2, "ignore": 255}, "swap": []}
    assert read_labels(make_source(description=description)) == Labels(
        {"lung": (3, 4), "heart": (2,)}, ignore=255, background=(0, 9)
    )


@pytest.mark.parametrize("description", [None, {"source": "somewhere", "licence": "MIT"}])
def test_no_classes_are_none(make_source, description) -> None:
    assert read_labels(make_source(description=description)) is None


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ({"labels": {"0": "background", "1": "liver"}}, r"labels\.0 is 'background'; expected an integer or a list"),
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
def test_wrong_classes_are_refused(make_source, description, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_labels(make_source(description=description))


def test_a_description_cut_off_in_the_middle_is_refused(make_source) -> None:
    source = make_source()
    (source / "dataset.json").write_text(json.dumps({"labels": {"liver": 1}})[:-2])
    with pytest.raises(UserError, match=r"dataset\.json: not valid JSON"):
        read_labels(source)
