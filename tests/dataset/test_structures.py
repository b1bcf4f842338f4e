from pathlib import Path

import pytest

from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.errors import UserError
from pipeline.labels import Labels

LABELS = Labels({"liver": (1,), "rib_*": (7,)})
MASKS = ["liver", "rib_left_1", "rib_left_2", "spleen"]


def files_of(name: str, masks: list[str]) -> list[str]:
    return [f"{name}/ct.nii.gz", *(f"{name}/segmentations/{mask}.nii.gz" for mask in masks)]


@pytest.fixture
def source(plant) -> Path:
    return plant(files_of("s1", MASKS) + files_of("s2", MASKS) + files_of("s3", MASKS))


def test_the_names_of_the_classes_choose_the_masks(source: Path) -> None:
    cases = find_cases(source, LABELS)
    assert [(case.name, case.image.relative_to(source).as_posix()) for case in cases[:1]] == [("s1", "s1/ct.nii.gz")]
    assert [list(case.label) for case in cases] == [["liver", "rib_left_1", "rib_left_2"]] * 3
    assert cases[1].label["liver"] == source / "s2/segmentations/liver.nii.gz"


def test_without_chosen_classes_there_is_one_for_each_structure_of_any_case(source: Path, plant) -> None:
    plant(["s2/segmentations/aorta.nii.gz"])
    assert read_labels(source) == Labels({name: (value,) for value, name in enumerate(["aorta", *MASKS], 1)})


def test_structures_exchange_in_the_mirror_as_dataset_json_says(source: Path, plant) -> None:
    plant([], {"swap": [["rib_left_1", "rib_left_2"]]})
    labels = read_labels(source)
    assert labels is not None
    assert labels.swap == (("rib_left_1", "rib_left_2"),)


def test_more_structures_than_a_label_map_holds_are_refused(plant) -> None:
    source = plant(files_of("s1", [f"rib_{number}" for number in range(255)]))
    with pytest.raises(UserError, match=r"255 structures .*; 1 to 254 can be classes: name those that you want"):
        read_labels(source)


def test_a_case_that_lacks_a_mask_lacks_the_structure_which_is_told_once_with_counts(plant, caplog) -> None:
    source = plant(files_of("s1", MASKS) + files_of("s2", ["spleen"]) + files_of("s3", ["liver"]))
    cases = find_cases(source, LABELS)
    assert [list(case.label) for case in cases] == [["liver", "rib_left_1", "rib_left_2"], [], ["liver"]]
    assert "of 3 cases, so many have no mask of a class, which is taken as absent: liver (1), rib_* (2)" in caplog.text
    assert len(caplog.records) == 1


def test_a_case_without_masks_is_not_annotated(plant) -> None:
    source = plant([*files_of("s1", MASKS), "s2/ct.nii.gz", "notes/readme.txt", ".cache/ct.nii.gz"])
    assert [(case.name, case.label is None) for case in find_cases(source, LABELS)] == [("s1", False), ("s2", True)]


def test_a_class_without_any_mask_is_refused_with_names_like_it(source: Path) -> None:
    with pytest.raises(UserError, match=r"labels\.Spleen: no case of .* has a mask .*; did you mean spleen\?"):
        find_cases(source, Labels({"Spleen": (1,)}))
    with pytest.raises(
        UserError, match=r"labels\.xyz: no case .*; expected names such as liver, rib_left_1, .*spleen\."
    ):
        find_cases(source, Labels({"liver": (1,), "xyz": (2,)}))


def test_a_data_set_without_any_mask_is_refused(plant) -> None:
    source = plant(["s1/ct.nii.gz", "s2/ct.nii.gz", "s2/segmentations/"])
    with pytest.raises(UserError, match=r"no case has a mask in segmentations/; put there one for each class"):
        find_cases(source, LABELS)


def test_a_mask_that_fits_two_classes_is_refused(source: Path) -> None:
    with pytest.raises(UserError, match=r"the mask rib_left_1 fits both rib_\* and \*_1; let it fit one of them only"):
        find_cases(source, Labels({"rib_*": (1,), "*_1": (2,)}))


def test_two_cts_of_one_case_are_refused(source: Path, plant) -> None:
    plant(["s1/ct.mha"])
    with pytest.raises(UserError, match=r"s1/ct\.nii\.gz and .*s1/ct\.mha are two files for the case 's1'"):
        find_cases(source, LABELS)


def test_meta_csv_gives_the_split_and_may_give_patient_and_group(source: Path, caplog, splits_of) -> None:
    (source / "meta.csv").write_text(
        "\ufeffimage_id;age;split;patient;group\ns1;70;train;p;g\ns2;;val;;\ns9;;test;;\n", encoding="utf-8"
    )
    assert splits_of(source) == {"s1": "train", "s2": "validation", "s3": "train"}
    assert "1 cases are not listed and are for training: s3" in caplog.text
    (first, *_) = find_cases(source, LABELS)
    assert (first.patient, first.group) == ("p", "g")


def test_dataset_json_goes_before_meta_csv(source: Path, plant, splits_of) -> None:
    (source / "meta.csv").write_text("image_id;split\ns1;train\ns2;test\ns3;train\n")
    plant([], {"test": ["s1"], "validation": ["s2"]})
    assert splits_of(source) == {"s1": "test", "s2": "validation", "s3": "train"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id;split\ns1;train\n", r"meta\.csv, line 1: no column 'image_id' among id, split"),
        ("image_id;split\n\ns1;trian\n", r"meta\.csv, line 3: split is 'trian'; expected train, validation or test"),
        ("image_id;split\ns1;train\ns1;test\n", r"meta\.csv, line 3: the case 's1' stands in line 2, too; remove one"),
    ],
)
def test_a_wrong_meta_csv_is_refused_with_the_line(source: Path, text: str, sentence: str) -> None:
    (source / "meta.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        find_cases(source, LABELS)
