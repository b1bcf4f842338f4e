"""What the stages after prepare find of the data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.cases import Case
from pipeline.errors import UserError
from pipeline.labels import Labels
from pipeline.stages.data import cases_of, encoding, label_key, labels_of, training_cases
from pipeline.stages.prepare import run


def test_training_finds_everything_without_the_source(configure, data_set, tmp_path: Path) -> None:
    data_set.describe(test=["t"], patients={"a": "p", "b": "p"}, swap=[["liver", "lung"]])
    run(configure())
    data_set.folder.rename(tmp_path / "elsewhere")
    labels, cases, prepared = training_cases(configure())
    assert labels == Labels({"liver": (1,), "lung": (2, 3)}, swap=(("liver", "lung"),))
    assert [(case.name, case.patient) for case in cases] == [("a", "p"), ("b", "p")]
    assert [case.name for case in prepared] == ["a", "b"]


def test_training_takes_names_and_swap_of_the_config(configure) -> None:
    run(configure())
    labels, _, _ = training_cases(configure("labels={hepar: 1, pulmo: [2, 3], swap: [[hepar, pulmo]]}"))
    assert labels.names == ("hepar", "pulmo")
    assert labels.swap == (("hepar", "pulmo"),)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "prepare.spacing_mm=[3,3,3]",
            r"prepare\.spacing_mm: \[3\.0, 3\.0, 3\.0\], but .* was prepared at \[2\.0, 2\.0, 4\.0\]",
        ),
        ("labels={liver: 1}", r"labels: .* cannot be taken from .* was prepared with"),
        ("data.exclude=[c]", r"data\.exclude: there is no case 'c'"),
        ("data.store=nowhere", r"nowhere: no prepared cases; run prepare"),
    ],
)
def test_training_refuses_a_store_that_was_made_for_something_else(configure, override: str, sentence: str) -> None:
    run(configure())
    with pytest.raises(UserError, match=sentence):
        training_cases(configure(override))


def test_without_a_source_cases_and_classes_are_those_of_the_store(configure, data_set) -> None:
    run(configure())
    config = configure("data.source=null")
    assert labels_of(config) == labels_of(configure())
    assert cases_of(config) == cases_of(configure())
    assert [case.image for case in cases_of(config) if case.split == "test"] == [
        data_set.folder / "images" / "t.nii.gz"
    ]


def test_that_a_source_is_of_no_known_layout_is_said_before_that_it_names_no_class(configure, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is of no known layout"):
        labels_of(configure(f"data.source={tmp_path / 'empty'}"))


def test_a_source_without_classes_asks_for_them(configure, data_set) -> None:
    (data_set.folder / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"labels: neither the config nor .*source names any class; add to the config"):
        labels_of(configure())


def test_an_order_of_overlap_names_classes(configure) -> None:
    with pytest.raises(UserError, match=r"data\.overlap: spleen is no class; expected some of liver, lung"):
        labels_of(configure("data.overlap=[liver, spleen]"))


@pytest.mark.parametrize("overlap", ["[liver]", "[liver, lung, liver]"])
def test_an_order_of_overlap_has_two_classes_or_more_each_once(configure, overlap: str) -> None:
    with pytest.raises(UserError, match=r"data\.overlap: found .*expected two classes or more, each once"):
        configure(f"data.overlap={overlap}")


def test_a_patient_in_training_and_test_is_refused_until_a_case_is_left_out(configure, data_set) -> None:
    data_set.describe(test=["t"], patients={"a": "p", "t": "p"})
    with pytest.raises(UserError, match=r"the patient 'p' has cases .*: a \(train\), t \(test\)"):
        run(configure())
    assert run(configure("data.exclude=[a]")).done == ("b",)


def test_a_store_with_a_patient_in_two_splits_is_not_trained_on(configure, data_set, store: Path) -> None:
    run(configure())
    listed = (store / "cases.json").read_text()
    (store / "cases.json").write_text(listed.replace('"patient": "t"', '"patient": "a"'))
    with pytest.raises(UserError, match="the patient 'a' has cases in more than one of training"):
        training_cases(configure())


def test_validation_cases_are_prepared_and_trained_with(configure, data_set) -> None:
    data_set.describe(test=["t"], validation=["b"])
    assert run(configure()).done == ("a", "b")
    _, cases, prepared = training_cases(configure())
    assert [(case.name, case.split) for case in cases] == [("a", "train"), ("b", "validation")]
    assert [case.name for case in prepared] == ["a", "b"]


PARTS, SPLITS = ("Tr", "Tr", "Ts"), ("train", "train", "test")  # of the cases a, b and t


def move(source: Path, paths: dict[str, str]) -> Path:
    """Copy files of a data set to where another layout has them, and return its folder."""
    for old, new in paths.items():
        (source.parent / "other" / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / old, source.parent / "other" / new)
    return source.parent / "other"


def as_decathlon(data_set) -> Path:
    paths = {f"{role}s/{name}.nii.gz": f"{role}sTr/{name}.nii.gz" for name in "ab" for role in ("image", "label")}
    folder = move(data_set.folder, paths | {"images/t.nii.gz": "imagesTs/t.nii.gz"})
    training = [{role: f"./{role}sTr/{name}.nii.gz" for role in ("image", "label")} for name in "ab"]
    labels = {"0": "background", "1": "liver", "2": "lung", "3": "lung"}
    described = {"training": training, "test": ["./imagesTs/t.nii.gz"], "labels": labels}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def as_nnunet(data_set) -> Path:
    images = {
        f"images/{name}.nii.gz": f"images{part}/{name}_0000.nii.gz" for name, part in zip("abt", PARTS, strict=True)
    }
    folder = move(data_set.folder, images | {f"labels/{name}.nii.gz": f"labelsTr/{name}.nii.gz" for name in "ab"})
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "lung": 3}}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def as_structures(data_set) -> Path:
    folder = move(data_set.folder, {f"images/{name}.nii.gz": f"{name}/ct.nii.gz" for name in "abt"})
    (folder / "meta.csv").write_text("image_id;split\na;train\nb;train\nt;test\n")
    for name in "ab":
        for structure, value in (("liver", 1), ("lung", 3)):
            mask = (data_set.label == value).astype(np.uint8)
            data_set.write(f"../other/{name}/segmentations/{structure}.nii.gz", mask)
    return folder


def as_table(data_set) -> Path:
    lines = [
        f"{name},images/{name}.nii.gz,labels/{name}.nii.gz,{split}" for name, split in zip("abt", SPLITS, strict=True)
    ]
    (data_set.folder / "cases.csv").write_text("\n".join(["case,image,label,split", *lines]))
    return data_set.folder / "cases.csv"


@pytest.mark.parametrize("layout", [as_decathlon, as_nnunet, as_structures, as_table])
def test_every_layout_prepares_the_same_voxels(configure, data_set, layout, tmp_path: Path) -> None:
    run(configure())
    expected = [case.read((0, 0, 0), case.grid.shape_vox) for case in training_cases(configure())[2]]
    words = (f"data.source={layout(data_set)}", f"work={tmp_path / 'again'}", "labels={liver: 1, lung: [2, 3]}")
    assert run(configure(*words)).done == ("a", "b")
    found = [case.read((0, 0, 0), case.grid.shape_vox) for case in training_cases(configure(*words))[2]]
    np.testing.assert_equal(found, expected)
    assert [case.name for case in cases_of(configure(*words)) if case.split == "test"] == ["t"]


def test_names_decide_what_is_prepared_of_masks_and_only_of_masks(configure, data_set) -> None:
    words = ("labels={liver: 1, lung: 2}", "labels={lung: 1, liver: 2}")
    source = f"data.source={as_structures(data_set)}"
    assert run(configure(source, words[0])).done == ("a", "b")
    with pytest.raises(UserError, match=r"labels: .* cannot be taken from .* was prepared with"):
        training_cases(configure(source, words[1]))
    assert run(configure(source, words[1])).done == ("a", "b")
    assert run(configure(source, words[1])).skipped == ("a", "b")


def test_an_order_of_overlap_prepares_cases_with_masks_again() -> None:
    labels = Labels({"liver": (1,), "lung": (2,)})
    masked = Case("a", Path("a"), {"liver": Path("b")}, "a", "train")
    whole = Case("a", Path("a"), Path("b"), "a", "train")
    keys = [[label_key(case, labels, overlap) for overlap in ((), ("lung", "liver"))] for case in (masked, whole)]
    assert keys[0][0] != keys[0][1]
    assert keys[1][0] == keys[1][1] == encoding(labels)
