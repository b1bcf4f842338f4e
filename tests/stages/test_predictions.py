"""What predictions are called."""

from pathlib import Path

from pipeline.dataset.cases import Case
from pipeline.stages.predictions import prediction_names


def cases(*images: tuple[str, str]) -> list[Case]:
    return [Case(name, Path(image), None, name, "test") for name, image in images]


def test_a_prediction_is_called_as_the_file_of_its_ct() -> None:
    assert prediction_names(cases(("a", "x/a_0000.nii.gz"), ("b", "y/b.mhd"))) == {"a": "a_0000.nii.gz", "b": "b.mha"}


def test_where_cts_have_the_same_name_predictions_are_called_by_their_cases() -> None:
    named = prediction_names(cases(("a", "x/ct.nii.gz"), ("b", "y/ct.mha"), ("c", "z/a.nrrd")))
    assert named == {"a": "a.nii.gz", "b": "b.mha", "c": "c.nrrd"}


def test_a_data_set_without_cases_has_no_predictions() -> None:
    assert prediction_names([]) == {}
