import pytest

from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.errors import UserError
from pipeline.labels import Labels

LABELS = Labels({"liver": (1,)})
FILES = ["imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTr/b.nii.gz", "labelsTr/b.nii.gz", "imagesTs/t.nii.gz"]


def pair(name: str) -> dict[str, str]:
    return {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}


DESCRIPTION = {
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "liver", "2": "cancer"},
    "training": [pair("b"), pair("a")],
    "test": ["./imagesTs/t.nii.gz"],
}


def test_cases_are_those_that_are_listed_and_test_cases_have_no_label(plant) -> None:
    source = plant([*FILES, "imagesTr/._a.nii.gz", "labelsTr/._a.nii.gz"], DESCRIPTION)
    cases = find_cases(source, LABELS)
    assert [(case.name, case.split) for case in cases] == [("a", "train"), ("b", "train"), ("t", "test")]
    assert [case.image.relative_to(source).as_posix() for case in cases] == [FILES[0], FILES[2], FILES[4]]
    assert [case.label and case.label.relative_to(source).as_posix() for case in cases] == [FILES[1], FILES[3], None]


def test_classes_are_named_by_value(plant) -> None:
    assert read_labels(plant(FILES, DESCRIPTION)) == Labels({"liver": (1,), "cancer": (2,)})


def test_validation_and_labelled_test_cases_may_be_listed(plant, splits_of) -> None:
    lists = {"training": [pair("a")], "validation": [pair("b")], "test": [{"image": "imagesTs/t.nii.gz"}]}
    assert splits_of(plant(FILES, DESCRIPTION | lists)) == {"a": "train", "b": "validation", "t": "test"}


def test_a_test_case_may_have_a_label(plant) -> None:
    (*_, test) = find_cases(plant(FILES, {"training": [pair("a")], "test": [pair("b")]}), LABELS)
    assert (test.name, test.split, test.label.name) == ("b", "test", "b.nii.gz")


def test_images_that_are_not_listed_are_left_out_with_a_warning(plant, caplog) -> None:
    cases = find_cases(plant(FILES, DESCRIPTION | {"training": [pair("a")]}), LABELS)
    assert [case.name for case in cases] == ["a", "t"]
    assert "imagesTr: left out, as dataset.json does not list them: b" in caplog.text


def test_patients_and_groups_may_be_added(plant) -> None:
    source = plant(FILES, DESCRIPTION | {"patients": {"a": "p", "b": "p"}, "groups": {"t": "g"}})
    assert [(case.patient, case.group) for case in find_cases(source, LABELS)] == [("p", ""), ("p", ""), ("t", "g")]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"modality": {"0": "T1", "1": "T2"}}, r"modality: 2 input channels \(T1, T2\); one is supported"),
        ({"modality": ["CT"]}, "modality is .*; expected an object of channel: name"),
        ({"training": {}}, r"training is \{\}; expected a list of files"),
        ({"training": [], "test": []}, "training is empty; list a case there"),
        ({"training": [pair("a"), 7]}, r'entry 2 of training is 7; expected \{"image": path, "label": path\}'),
        ({"training": [{"image": ["a.nii", "b.nii"], "label": "c.nii"}]}, "entry 1 of training .* with one path each"),
        ({"training": ["imagesTr/a.nii.gz"]}, r'entry 1 of training \(imagesTr/a\.nii\.gz\) has no "label"'),
        ({"training": [{"image": "a.png", "label": "b"}]}, r"entry 1 of training: a\.png is of no known format"),
        ({"training": [pair("a"), pair("a")]}, "'a' is listed twice, in training and in training"),
        ({"test": [pair("a")]}, "'a' is listed twice, in training and in test"),
        ({"training": [pair("a"), pair("x")]}, r"imagesTr/x\.nii\.gz not found \(2 of 5 files are missing\)"),
        ({"test": ["imagesTr/.nii.gz"]}, "entry 1 of test: no file can be called ''"),
        ({"patients": {"x": "p"}}, "patients: there is no case 'x' among 3"),
    ],
)
def test_a_wrong_list_is_refused_with_the_entry(plant, keys, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find_cases(plant(FILES, DESCRIPTION | keys), LABELS)
