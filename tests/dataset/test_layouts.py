"""Which layout a source has, and what is the same in all of them."""

import json
from pathlib import Path

import pytest

from pipeline.dataset.layouts import declared_labels, find_cases, read_labels
from pipeline.errors import UserError
from pipeline.labels import Labels

LABELS = Labels({"liver": (1,)})
HEAD_NECK = Path(__file__).parents[2] / "examples" / "head_neck"
NNUNET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
DECATHLON = {"training": [{"image": "imagesTr/a_0000.nii.gz", "label": "labelsTr/a.nii.gz"}]}


def test_the_example_has_twelve_training_and_four_test_cases_with_its_classes() -> None:
    labels = read_labels(HEAD_NECK)
    assert labels is not None
    assert labels.values["Mandible"] == (5,)
    assert labels.swap == (("RightParotid", "LeftParotid"),)
    cases = find_cases(HEAD_NECK, labels)
    assert [case.name for case in cases if case.split == "test"] == ["hn_077", "hn_082", "hn_083", "hn_084"]
    assert sum(case.split == "train" for case in cases) == 12
    assert all(isinstance(case.label, Path) and case.label.is_file() for case in cases)


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.source: .*nowhere: no such file or folder; check the path\."):
        find_cases(tmp_path / "nowhere", LABELS)


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ([], "found an empty folder, and no dataset.json"),
        ([".hidden"], "found an empty folder"),
        (["a/images/", "b.nii", "dataset.json/"], r"found a/, b\.nii, dataset\.json/\. See"),
        ([f"{letter}.dcm" for letter in "abcdefg"], r"found a\.dcm, b\.dcm, c\.dcm, d\.dcm, e\.dcm and 2 more"),
        (["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"], "found imagesTr/, labelsTr/, and no dataset.json"),
    ],
)
def test_an_unknown_layout_is_refused_with_those_that_are_known_and_what_was_found(plant, paths, found: str) -> None:
    source = plant(paths)
    if "dataset.json/" in paths:
        (source / "dataset.json").rmdir()
        (source / "dataset.json").write_text("{}")
        found = r"found a/, b\.nii, dataset\.json\. See"
    with pytest.raises(UserError, match=rf"expected images/ and labels/; or imagesTr/.*a CSV file; {found}"):
        find_cases(source, LABELS)


def test_a_file_that_is_no_csv_is_refused(plant) -> None:
    source = plant(["ct.nii.gz"]) / "ct.nii.gz"
    with pytest.raises(UserError, match=r"ct\.nii\.gz is of no known layout; .*found a file that is not called \.csv"):
        find_cases(source, LABELS)


def test_of_two_layouts_the_first_of_the_fixed_order_is_taken(plant) -> None:
    structures = ["s1/ct.nii.gz", "s1/segmentations/liver.nii.gz"]
    files = ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"]
    found = []
    for paths, description in (
        (structures, {}),
        (files, DECATHLON),
        ([], DECATHLON | NNUNET),
        (["images/b.nii", "labels/b.nii"], DECATHLON | NNUNET),
    ):
        found += [case.name for case in find_cases(plant(paths, description), LABELS)]
    assert found == ["s1", "a_0000", "a", "b"]


def test_cases_are_sorted_by_name_in_every_layout(plant) -> None:
    source = plant(["c.nii", "d.nii"]) / "cases.csv"
    source.write_text("case,image,label\nb,c.nii,c.nii\na,d.nii,d.nii\n")
    assert [case.name for case in find_cases(source, LABELS)] == ["a", "b"]


@pytest.mark.parametrize("description", [None, {"source": "somewhere", "licence": "MIT"}])
def test_no_classes_are_none(make_source, description) -> None:
    assert read_labels(make_source(["a.nii"], ["a.nii"], description)) is None


def test_classes_are_read_apart_from_the_images(plant) -> None:
    assert read_labels(plant([], NNUNET)) == LABELS


def test_a_csv_file_names_no_classes(plant) -> None:
    source = plant(["cases.csv"], {"labels": {"liver": 1}}) / "cases.csv"
    assert read_labels(source) is None
    assert declared_labels(source) is None


def test_structures_are_found_but_declared_in_a_dataset_json_only(plant) -> None:
    source = plant(["s1/ct.nii.gz", "s1/segmentations/liver.nii.gz"])
    assert read_labels(source) == LABELS
    assert declared_labels(source) is None
    plant([], {"labels": {"liver": 5}})
    assert read_labels(source) == declared_labels(source) == Labels({"liver": (5,)})


def test_a_description_cut_off_in_the_middle_is_refused(plant) -> None:
    source = plant([])
    (source / "dataset.json").write_text(json.dumps({"labels": {"liver": 1}})[:-2])
    with pytest.raises(UserError, match=r"dataset\.json: not valid JSON"):
        read_labels(source)
