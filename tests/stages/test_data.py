"""What the stages after prepare find of the data."""

from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.labels import Labels
from pipeline.stages.data import cases_of, labels_of, training_cases
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
        ("labels={liver: 1}", r"labels: .* are not those that .* was prepared for"),
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
