import pytest

from pipeline.dataset.layouts import find_cases
from pipeline.errors import UserError
from pipeline.labels import Labels

LABELS = Labels({"liver": (1,)})


def test_image_and_label_are_paired_by_name_whatever_their_suffixes(make_source) -> None:
    source = make_source(["b.nii", "a.nii.gz", "c.NII.GZ", "d.mha"], ["a.nii", "b.nii.gz", "c.nrrd", "d.nii.gz"])
    cases = find_cases(source, LABELS)
    assert [(case.name, case.image.name, case.label.name) for case in cases if case.label] == [
        ("a", "a.nii.gz", "a.nii"),
        ("b", "b.nii", "b.nii.gz"),
        ("c", "c.NII.GZ", "c.nrrd"),
        ("d", "d.mha", "d.nii.gz"),
    ]


@pytest.mark.parametrize("name", ["Fall 7 (links)", "große_Ähre", "患者１", "a.b-c", "it's"])
def test_spaces_and_letters_of_any_language_make_a_name(make_source, name: str) -> None:
    source = make_source([f"{name}.nii.gz"], [f"{name}.nii.gz"], {"test": [name]})
    (case,) = find_cases(source, LABELS)
    assert (case.name, case.split, case.patient) == (name, "test", name)


def test_hidden_files_and_files_of_other_kinds_are_not_cases(make_source) -> None:
    source = make_source(["a.nii.gz", ".b.nii.gz", "._a.nii.gz", "notes.txt", "c.dcm"], ["a.nii.gz", ".DS_Store"])
    assert [case.name for case in find_cases(source, LABELS)] == ["a"]


def test_two_files_for_one_case_are_refused_with_both_named(make_source) -> None:
    source = make_source(["a.mha", "a.nii.gz"], ["a.nii.gz"])
    with pytest.raises(UserError, match=r"images/a\.mha and .*images/a\.nii\.gz are two files for the case 'a'"):
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
        ([], [], r"images: no file of a known format \(\.nii\.gz, .*\.nrrd"),
    ],
)
def test_a_missing_or_empty_folder_is_refused(make_source, images, labels, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find_cases(make_source(images, labels), LABELS)


def test_the_description_says_which_cases_are_kept_for_what(make_source, splits_of) -> None:
    names = ["a.nii", "b.nii", "c.nii"]
    source = make_source(names, names, {"test": ["a"], "validation": ["c"]})
    assert splits_of(source) == {"a": "test", "b": "train", "c": "validation"}
