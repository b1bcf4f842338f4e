import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.errors import ExitCode, UserError
from pipeline.stages.evaluate import choose_labels, find_pairs, run

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
DIAGONAL_MM = np.linalg.norm([20.0, 16.0, 24.0])
EXAMPLES = Path(__file__).parents[2] / "examples/head_neck"


def block(shift: int = 0, value: int = 1) -> np.ndarray:
    """Return a block of 4 x 4 x 4 voxels, moved by `shift` along x."""
    voxels = np.zeros((10, 8, 8), np.uint8)
    voxels[2 + shift : 6 + shift, 2:6, 2:6] = value
    return voxels


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders for truth and prediction: case a shifted by one voxel, case b exact and with another suffix."""
    truth, prediction = tmp_path / "truth", tmp_path / "prediction"
    write(truth / "a.nii.gz", block())
    write(prediction / "a.nii.gz", block(shift=1))
    write(truth / "b.nii.gz", block())
    write(prediction / "b.nii", block())
    return truth, prediction


@pytest.fixture
def configure(tmp_path: Path, folders: tuple[Path, Path]) -> Callable[..., Config]:
    """Return a function of overrides to the config that compares `folders`."""
    truth, prediction = folders
    standard = [f"work={tmp_path / 'work'}", f"evaluate.truth={truth}", f"evaluate.prediction={prediction}"]
    return lambda *overrides: load([*standard, "evaluate.workers=1", *overrides])


def summary_of(config: Config) -> dict[str, Any]:
    return json.loads((config.work / "evaluate" / "summary.json").read_text())


def test_two_folders_are_scored_without_data_or_labels(
    configure: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure()
    outcome = run(config)
    assert outcome.done == ("a", "b")
    assert outcome.exit_code == ExitCode.DONE
    summary = summary_of(config)
    assert summary["mean"]["dice"] == pytest.approx((0.75 + 1) / 2)  # 48 of 64 voxels agree in a
    assert summary["mean"]["iou"] == pytest.approx((0.6 + 1) / 2)
    assert summary["mean"]["hd95_mm"] == pytest.approx((2 + 0) / 2)  # one voxel of 2 mm
    assert summary["mean"]["nsd"] == 1.0
    assert summary["labels"]["label 1"]["volume_ml_truth"]["mean"] == pytest.approx(64 * 12 / 1000)
    assert summary["incomplete"] == []
    assert "2 of 2" in capsys.readouterr().out
    with (config.work / "evaluate" / "cases.csv").open() as file:
        rows = {(row["case"], row["metric"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * 6
    assert float(rows["a", "dice"]["value"]) == pytest.approx(0.75)
    assert rows["a", "dice"]["label"] == "label 1"
    assert rows["a", "dice"]["state"] == "both"


def test_what_stands_is_skipped_and_what_changed_is_scored_again(
    configure: Callable[..., Config], folders: tuple[Path, Path]
) -> None:
    run(configure())
    write(folders[1] / "a.nii.gz", block(shift=2))
    outcome = run(configure())
    assert (outcome.done, outcome.skipped) == (("a",), ("b",))
    assert summary_of(configure())["mean"]["dice"] == pytest.approx((0.5 + 1) / 2)


def test_a_missing_prediction_fails_its_case_and_counts_as_missed(
    configure: Callable[..., Config], folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    (folders[1] / "a.nii.gz").unlink()
    with caplog.at_level(logging.WARNING, "hounsfield"):
        outcome = run(configure())
    assert outcome.exit_code == ExitCode.SOME_FAILED
    assert "no prediction for" in outcome.failed["a"]
    summary = summary_of(configure())
    assert summary["incomplete"] == ["a"]
    assert summary["mean"]["dice"] == pytest.approx((0 + 1) / 2)
    assert summary["mean"]["hd95_mm"] == pytest.approx((DIAGONAL_MM + 0) / 2)
    assert summary["detected_mean"]["dice"] == 1.0
    assert (summary["detected_count"], summary["truth_count"]) == (1, 2)
    assert "incomplete" in caplog.text


def test_a_case_that_cannot_be_compared_says_why_and_lifts_no_mean(
    configure: Callable[..., Config], folders: tuple[Path, Path]
) -> None:
    truth, prediction = folders
    write(prediction / "a.nii.gz", block(shift=1), np.diag([2.0, 2.0, 3.5, 1.0]))
    write(truth / "c.nii.gz", block())
    write(prediction / "c.nii.gz", block(value=7))
    write(truth / "d.nii.gz", block())
    (truth / "d.nii.gz").write_bytes(b"no gzip file")
    write(prediction / "d.nii.gz", block())
    config = configure("labels={liver: 1}")
    outcome = run(config)
    assert outcome.done == ("b",)
    assert "2 x 2 x 3.5 mm" in outcome.failed["a"]
    assert "2 x 2 x 3 mm" in outcome.failed["a"]
    assert "c.nii.gz" in outcome.failed["c"]
    assert "7 (64 voxels)" in outcome.failed["c"]
    assert "d.nii.gz" in outcome.failed["d"]
    summary = summary_of(config)
    assert summary["cases"] == 3  # nothing is known of d
    assert summary["mean"]["dice"] == pytest.approx(1 / 3)
    assert set(summary["incomplete"]) == {"a", "c", "d"}


def test_test_cases_are_scored_by_default(tmp_path: Path) -> None:
    config = load([f"work={tmp_path}", f"data.source={EXAMPLES}", "evaluate.workers=1"])
    for name in ("hn_077", "hn_082", "hn_083", "hn_084"):
        label = nib.load(EXAMPLES / "labels" / f"{name}.nii.gz")
        write(tmp_path / "predict" / f"{name}.nii.gz", np.asarray(label.dataobj), label.affine)
    outcome = run(config)
    assert outcome.done == ("hn_077", "hn_082", "hn_083", "hn_084")
    summary = summary_of(config)
    assert summary["mean"] == {"dice": 1.0, "iou": 1.0, "hd95_mm": 0.0, "nsd": 1.0}
    assert list(summary["labels"]) == ["Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Mandible"]


def test_predictions_without_truth_are_left_out_with_a_warning(
    configure: Callable[..., Config], folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    write(folders[1] / "other.nii.gz", block())
    with caplog.at_level(logging.WARNING, "hounsfield"):
        assert list(find_pairs(configure())) == ["a", "b"]
    assert "other" in caplog.text


def test_excluded_cases_are_left_out(configure: Callable[..., Config]) -> None:
    assert list(find_pairs(configure("data.exclude=[a]"))) == ["b"]


def test_two_files_for_one_case_are_refused(configure: Callable[..., Config], folders: tuple[Path, Path]) -> None:
    write(folders[0] / "b.nii", block())
    with pytest.raises(UserError, match=r"b\.nii.* two files"):
        find_pairs(configure())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluate.prediction=/no/such/folder", "/no/such/folder.*run infer"),
        ("evaluate.truth=/no/such/folder", "evaluate.truth: /no/such/folder"),
        ("evaluate.truth=null", "no prepared cases; run prepare"),
    ],
)
def test_folders_that_are_not_there_are_refused(configure: Callable[..., Config], override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        find_pairs(configure(override))


def test_folders_with_no_name_in_common_are_refused(
    configure: Callable[..., Config], folders: tuple[Path, Path]
) -> None:
    for path in list(folders[1].iterdir()):
        path.rename(path.with_name(f"seg_{path.name}"))
    with pytest.raises(UserError, match="none of its 2 label files is named as one of the 2 cases"):
        find_pairs(configure())


def test_classes_come_from_the_config_then_from_dataset_json_then_from_the_values(
    configure: Callable[..., Config], folders: tuple[Path, Path]
) -> None:
    write(folders[1] / "b.nii", block(value=9))
    pairs = find_pairs(configure())
    assert dict(choose_labels(configure(), pairs).values) == {"label 1": (1,), "label 9": (9,)}
    (folders[0] / "dataset.json").write_text(json.dumps({"labels": {"liver": [1, 9]}}))
    assert dict(choose_labels(configure(), pairs).values) == {"liver": (1, 9)}
    assert choose_labels(configure("labels={spleen: 1}"), pairs).names == ("spleen",)


def test_folders_of_empty_labels_are_refused(configure: Callable[..., Config], folders: tuple[Path, Path]) -> None:
    for folder in folders:
        for path in folder.iterdir():
            write(path, np.zeros((10, 8, 8), np.uint8))
    with pytest.raises(UserError, match="background"):
        choose_labels(configure(), find_pairs(configure()))


def copy_as(path: Path, target: Path) -> None:
    """Write an image again in the format of another suffix."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.ReadImage(str(path)), str(target))


def test_truth_and_prediction_may_have_different_formats(
    configure: Callable[..., Config], folders: tuple[Path, Path]
) -> None:
    truth, prediction = folders
    copy_as(truth / "a.nii.gz", truth / "a.mha")
    copy_as(prediction / "b.nii", prediction / "b.nrrd")
    for path in (truth / "a.nii.gz", prediction / "b.nii"):
        path.unlink()
    config = configure()
    assert run(config).done == ("a", "b")
    assert summary_of(config)["mean"]["dice"] == pytest.approx((0.75 + 1) / 2)


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    """A data set with a mask a structure, of two test cases, whose CTs are all called ct.nii.gz."""
    source = tmp_path / "structures"
    for name in ("s1", "s2"):
        write(source / name / "ct.nii.gz", np.full((10, 8, 8), -1000, np.int16))
        write(source / name / "segmentations" / "liver.nii.gz", block())
        write(source / name / "segmentations" / "spleen.nii.gz", block(shift=3))
    (source / "dataset.json").write_text(json.dumps({"test": ["s1", "s2"], "groups": {"s1": "old scanner"}}))
    return source


def test_a_mask_for_each_structure_is_a_truth(structures: Path, tmp_path: Path) -> None:
    given = [f"work={tmp_path / 'work'}", f"data.source={structures}", "labels={liver: 4, spleen: 7}"]
    overlapping = load([*given, "evaluate.workers=1"])
    ordered = load([*given, "evaluate.workers=1", "data.overlap=[spleen, liver]"])
    expected = 4 * block()
    expected[block(shift=3) > 0] = 7
    for name in ("s1", "s2"):
        write(tmp_path / "work" / "predict" / f"{name}.nii.gz", expected)
    assert all("overlaps" in sentence for sentence in run(overlapping).failed.values())
    assert run(ordered).done == ("s1", "s2")
    assert summary_of(ordered)["mean"]["dice"] == 1.0
    assert run(ordered).skipped == ("s1", "s2")
    write(structures / "s2" / "segmentations" / "liver.nii.gz", block(shift=2))
    assert run(ordered).done == ("s2",)  # a mask has changed
    write(structures / "s1" / "ct.nii.gz", np.full((10, 8, 8), -1001, np.int16), np.diag([2, 2, 4, 1]))
    assert "another grid" in run(ordered).failed["s1"]  # the CT that the masks lie on has changed


def test_scores_are_reported_apart_for_each_group(
    structures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, shift in (("s1", 0), ("s2", 1)):
        write(tmp_path / "work" / "predict" / f"{name}.nii.gz", block(shift))
    config = load([f"work={tmp_path / 'work'}", f"data.source={structures}", "labels={liver: 1}", "evaluate.workers=1"])
    run(config)
    summary = summary_of(config)
    assert {name: (group["cases"], group["mean"]["dice"]) for name, group in summary["groups"].items()} == {
        "": (1, pytest.approx(0.75)), "old scanner": (1, 1.0),
    }  # fmt: skip
    assert summary["mean"]["dice"] == pytest.approx((1 + 0.75) / 2)
    shown = capsys.readouterr().out
    assert "old scanner" in shown and "(no group)" in shown
    with (config.work / "evaluate" / "cases.csv").open() as file:
        assert {(row["case"], row["group"]) for row in csv.DictReader(file)} == {("s1", "old scanner"), ("s2", "")}


def test_without_groups_there_is_no_word_of_them(
    configure: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure()
    run(config)
    assert "groups" not in summary_of(config)
    assert "group" not in capsys.readouterr().out
    assert "group" not in (config.work / "evaluate" / "cases.csv").read_text()


REGIONS = (
    "labels={liver: 1, tumour: 2, rim: 3, cyst: 4, regions: {organ: {classes: [liver, tumour, rim], write: liver}, "
    "lesion: {classes: [tumour], write: tumour}, fluid: {classes: [cyst], write: cyst}}}"
)


@pytest.fixture
def layers(folders: tuple[Path, Path]) -> None:
    """Case a: of four layers of 16 voxels a tumour is two, predicted one; case c lacks its prediction."""
    for folder, values in zip(folders, ((3, 1, 2, 2), (1, 1, 1, 2)), strict=True):
        voxels = block()
        for x, value in enumerate(values, 2):
            voxels[x, 2:6, 2:6] = value
        write(folder / "a.nii.gz", voxels)
    write(folders[0] / "c.nii.gz", block())


@pytest.mark.usefixtures("layers")
def test_under_a_head_of_regions_these_are_scored_and_not_their_classes(
    configure: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(REGIONS, "head.kind=regions")
    assert set(run(config).failed) == {"c"}
    summary = summary_of(config)
    assert list(summary["labels"]) == ["organ", "lesion", "fluid"]
    # Organ: exact in a, though no head writes its rim, and in b; missed in c. Lesion: 2 * 16 / (32 + 16) in a alone.
    assert summary["labels"]["organ"]["states"] == {"both": 2, "missed": 1, "false_alarm": 0, "absent": 0}
    assert summary["labels"]["organ"]["dice"]["mean"] == pytest.approx(2 / 3)
    assert summary["labels"]["lesion"]["dice"]["mean"] == pytest.approx(2 / 3)
    assert summary["labels"]["fluid"]["states"]["absent"] == 3
    assert summary["mean"]["dice"] == pytest.approx(((1 + 2 / 3) / 2 + 1 + 0) / 3)
    assert (summary["detected_count"], summary["truth_count"]) == (3, 4)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("region", "organ", "lesion", "fluid")) and "rim" not in shown
    with (config.work / "evaluate" / "cases.csv").open() as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"organ", "lesion", "fluid"}


def test_what_is_scored_decides_whether_a_case_must_be_scored_again(configure: Callable[..., Config]) -> None:
    assert run(configure(REGIONS)).done == ("a", "b")
    assert run(configure(REGIONS, "head.kind=sigmoid")).skipped == ("a", "b")  # the same classes
    assert run(configure(REGIONS, "head.kind=regions")).done == ("a", "b")
    assert run(configure(REGIONS, "head.kind=regions")).skipped == ("a", "b")
    assert run(configure(REGIONS)).done == ("a", "b")
