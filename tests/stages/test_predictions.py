"""What predictions are called."""

from pathlib import Path

from pipeline.config.load import load
from pipeline.dataset.cases import Case
from pipeline.stages.evaluate import find_pairs
from pipeline.stages.infer import find_scans
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


def test_leaving_a_case_out_does_not_change_what_the_others_are_called(tmp_path: Path) -> None:
    rows = ["case,image,label,split"]
    for case, file in {"first": "one/1.nii.gz", "second": "two/1.nii.gz", "third": "two/2.nii.gz"}.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
        rows.append(f"{case},{file},{file},test")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    (tmp_path / "work" / "predict").mkdir(parents=True)
    (tmp_path / "work" / "predict" / "third.nii.gz").touch()
    standard = [f"work={tmp_path / 'work'}", f"data.source={tmp_path / 'cases.csv'}", "labels={liver: 1}"]
    config = load([*standard, "data.exclude=[second]"])
    expected = {"first": "first.nii.gz", "third": "third.nii.gz"}
    assert {name: scan.prediction for name, scan in find_scans(config).items()} == expected
    assert {name: pair.prediction.name for name, pair in find_pairs(config).items()} == expected
