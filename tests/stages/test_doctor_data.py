"""The doctor on real CTs, broken as users break them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from pipeline import log
from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.errors import ExitCode, UserError
from pipeline.stages import doctor_data, prepare
from pipeline.stages.doctor_data import run
from pipeline.work import WorkFolder

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "head_neck"
NAMES = ("hn_001", "hn_002", "hn_004", "hn_009", "hn_012", "hn_013")  # the last one is for testing
LABELS = json.loads((EXAMPLES / "dataset.json").read_text())["labels"]


@dataclass(frozen=True)
class HeadNeck:
    """Six real cases in a folder of their own, any of which can be broken."""

    folder: Path
    work: Path

    def config(self, *overrides: str) -> Config:
        standard = [f"work={self.work}", f"data.source={self.folder}", "prepare.workers=0"]
        return load([*standard, "prepare.spacing_mm=[3.5,3.5,3.5]", *overrides])

    def describe(self, **keys: Any) -> None:
        content = {"labels": LABELS, "test": [NAMES[-1]], **keys}
        (self.folder / "dataset.json").write_text(json.dumps(content))

    def change(self, file: str, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
        """Write a file anew with other voxels, and other geometry where it is given."""
        path = self.folder / file
        image = nib.load(path)
        voxels = change(np.asanyarray(image.dataobj))
        path.unlink()  # a link to the example itself
        nib.save(nib.Nifti1Image(voxels, image.affine if affine is None else affine), path)


@pytest.fixture
def data(tmp_path: Path) -> HeadNeck:
    made = HeadNeck(tmp_path / "data", tmp_path / "work")
    for role in ("images", "labels"):
        (made.folder / role).mkdir(parents=True)
        for name in NAMES:
            (made.folder / role / f"{name}.nii.gz").symlink_to(EXAMPLES / role / f"{name}.nii.gz")
    made.describe()
    return made


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[ExitCode, str]]:
    """Return a function that runs the doctor, and gives the exit code and the tables with spaces made one."""

    def tell(config: Config, **options: bool) -> tuple[ExitCode, str]:
        code = run(config, **options)
        return code, re.sub(r"\s+", " ", capsys.readouterr().out)

    return tell


def test_the_examples_are_sound(told) -> None:
    config = load([str(ROOT / "configs" / "head_neck.yaml"), f"data.source={EXAMPLES}", "prepare.workers=0"])
    assert told(config) == (ExitCode.DONE, "")


def test_nothing_is_written(data: HeadNeck, told) -> None:
    before = sorted(data.folder.rglob("*"))
    told(data.config())
    assert not data.work.exists()
    assert sorted(data.folder.rglob("*")) == before


def shifted(voxels: np.ndarray) -> np.ndarray:
    return (voxels.astype(np.int32) + 1024).astype(np.uint16)


def grey(voxels: np.ndarray) -> np.ndarray:
    return ((voxels.clip(-160, 240).astype(np.float32) + 160) / 400 * 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "kind", "cure"),
    [
        (shifted, "HU shifted", "add -1024 to the intercept in the header"),
        (grey, "8-bit picture", "give the original CT"),
        (lambda v: (v.clip(-200, 400) + 200) / np.float32(600), "windowed or scaled already", "give the original CT"),
        (lambda v: np.zeros_like(v), "all voxels are the same", "give the original CT"),
        (lambda v: v.astype(np.int32) - 1024, "not HU", "mend slope and intercept"),
        (np.negative, "not HU", "reverse the signs of slope and intercept"),
    ],
    ids=["unsigned", "8 bits", "0..1", "zeros", "shifted twice", "reversed"],
)
def test_a_ct_that_is_not_in_hu_is_an_error_with_its_cure(
    data: HeadNeck, told, change: Callable[[np.ndarray], np.ndarray], kind: str, cure: str
) -> None:
    data.change("images/hn_001.nii.gz", change)
    code, out = told(data.config())
    assert code == ExitCode.SOME_FAILED
    assert out.startswith("errors ") and "hn_001" in out and "hn_002" not in out
    assert kind in out and cure in out


def test_a_windowed_ct_is_a_warning(data: HeadNeck, told) -> None:
    data.change("images/hn_001.nii.gz", lambda voxels: voxels.clip(-200, 400))
    code, out = told(data.config())
    assert code == ExitCode.DONE
    assert out.startswith("warnings ") and "HU cut off" in out and "-200 to 400" in out


@pytest.mark.parametrize("padding", [-2000, -3024, 0])
def test_metal_and_padding_of_any_value_are_no_problem(data: HeadNeck, told, padding: int) -> None:
    def change(voxels: np.ndarray) -> np.ndarray:
        changed = np.where(voxels == voxels.min(), padding, voxels).astype(np.int16)
        changed[64, 64, 60:64] = 26_000
        return changed

    data.change("images/hn_001.nii.gz", change)
    assert told(data.config()) == (ExitCode.DONE, "")


def test_what_cannot_be_read_is_an_error_of_its_case_and_the_others_are_judged(data: HeadNeck, told, caplog) -> None:
    affine = nib.load(data.folder / "labels/hn_001.nii.gz").affine.copy()
    affine[0, 3] += 5
    data.change("labels/hn_001.nii.gz", np.asarray, affine)
    data.change("labels/hn_002.nii.gz", lambda voxels: np.where(voxels == 5, 7, voxels))
    whole = (data.folder / "images/hn_004.nii.gz").read_bytes()
    (data.folder / "images/hn_004.nii.gz").unlink()
    (data.folder / "images/hn_004.nii.gz").write_bytes(whole[: len(whole) // 2])
    (data.folder / "labels/hn_009.nii.gz").unlink()
    data.change("images/hn_012.nii.gz", lambda voxels: voxels.clip(-200, 400))
    caplog.set_level("INFO")
    code, out = told(data.config("data.folds=2", "data.exclude=[hn_013]"))
    assert code == ExitCode.SOME_FAILED
    for sentence in ("lies on another grid", "belong to no class", "truncated or damaged", "has no label map"):
        assert sentence in out
    assert "HU cut off" in out
    assert "data.exclude=[hn_013, hn_001, hn_002, hn_004, hn_009]" in caplog.text


def test_broken_labels_are_told(data: HeadNeck, told) -> None:
    def slip(voxels: np.ndarray) -> np.ndarray:
        changed = np.where(voxels == 1, 0, voxels)
        changed[64, 64, 60:63] = 1
        return changed

    data.change("labels/hn_001.nii.gz", slip)
    data.change("labels/hn_002.nii.gz", np.zeros_like)
    data.change("labels/hn_004.nii.gz", lambda voxels: np.where(voxels == 0, 5, voxels))
    code, out = told(data.config())
    assert code == ExitCode.DONE
    assert "hn_001 few voxels voxels of Brainstem: 3" in out
    assert "hn_002 empty label" in out
    assert "hn_004 no background 100.0% of the voxels belong to a class" in out


def test_left_and_right_exchanged_in_a_case_are_told(data: HeadNeck, told) -> None:
    data.change("labels/hn_001.nii.gz", lambda voxels: np.array([0, 1, 2, 4, 3, 5], np.uint8)[voxels])
    code, out = told(data.config())
    assert code == ExitCode.DONE
    assert "hn_001 left and right exchanged LeftParotid lies 105 mm to the right of RightParotid" in out


def test_a_label_map_far_off_its_organs_is_told(data: HeadNeck, told, caplog) -> None:
    data.change("labels/hn_001.nii.gz", lambda voxels: np.roll(voxels, 30, axis=0))  # by 117 mm
    caplog.set_level("DEBUG")
    code, out = told(data.config())
    assert code == ExitCode.DONE
    assert out.startswith("warnings ") and "hn_002" not in out
    assert "warning: hn_001: class in the air: Brainstem: 100% lie below -500 HU, where 0% is usual" in caplog.text


def test_a_scan_of_a_test_patient_among_the_training_cases_is_an_error(data: HeadNeck, told, caplog) -> None:
    data.describe(patients={"hn_001": "P", "hn_013": "P"})
    caplog.set_level("INFO")
    code, out = told(data.config())
    assert code == ExitCode.SOME_FAILED
    assert "hn_001 patient in two splits P has hn_001 in train and hn_013 in test" in out
    assert "data.exclude=[hn_001]" in caplog.text


def test_the_same_scan_under_two_names_is_an_error_across_splits(data: HeadNeck, told) -> None:
    data.change("images/hn_013.nii.gz", lambda _: np.asanyarray(nib.load(data.folder / "images/hn_001.nii.gz").dataobj))
    code, out = told(data.config())
    assert code == ExitCode.SOME_FAILED
    assert "scan in two splits hn_001 (train) has the voxels of hn_013 (test)" in out


def test_a_coarse_training_grid_changes_volumes(data: HeadNeck, told) -> None:
    code, out = told(data.config("prepare.spacing_mm=[12,12,12]"))
    assert code == ExitCode.DONE
    assert "volume on the training grid" in out and "lower prepare.spacing_mm" in out
    assert re.search(r"RightParotid: \d+ mm3 become \d+ \(-\d+%\)", out)


def test_a_class_that_is_nowhere_is_an_error_of_the_data_set(data: HeadNeck, told) -> None:
    data.describe(labels={**LABELS, "Oesophagus": 9})
    code, out = told(data.config())
    assert code == ExitCode.SOME_FAILED
    assert "data set class without a case no voxel in 5 training cases of Oesophagus" in out


def test_test_cases_are_read_too_and_need_no_label(data: HeadNeck, told) -> None:
    (data.folder / "labels/hn_013.nii.gz").unlink()
    assert told(data.config()) == (ExitCode.DONE, "")
    data.change("images/hn_013.nii.gz", shifted)
    code, out = told(data.config())
    assert code == ExitCode.SOME_FAILED
    assert "hn_013 HU shifted" in out


def test_what_finding_the_cases_warns_of_is_in_the_table(data: HeadNeck, told) -> None:
    (data.folder / "images/hn_001.nii.gz").unlink()
    code, out = told(data.config("data.folds=2"))
    assert code == ExitCode.DONE
    assert "data set data set" in out and "hn_001.nii.gz" in out


def test_many_cases_with_one_fault_are_one_line_and_all_are_in_the_log(data: HeadNeck, told, caplog) -> None:
    for name in NAMES:
        data.change(f"images/{name}.nii.gz", shifted)
    caplog.set_level("DEBUG")
    code, out = told(data.config())
    assert code == ExitCode.SOME_FAILED
    assert out.count("HU shifted") == 1
    assert "hn_001, hn_002, hn_004 and 3 more HU shifted such as hn_001: " in out
    assert all(f"error: {name}: HU shifted" in caplog.text for name in NAMES)


def test_spawned_processes_tell_the_same(data: HeadNeck, told) -> None:
    data.change("images/hn_004.nii.gz", shifted)
    (data.folder / "labels/hn_001.nii.gz").unlink()
    alone = told(data.config())
    assert told(data.config("prepare.workers=2")) == alone
    assert alone[0] == ExitCode.SOME_FAILED


# The store


def test_a_damaged_store_is_told_with_verify_only_and_without_the_source(data: HeadNeck, told, capsys) -> None:
    others = json.dumps(list(NAMES[2:5]))
    assert prepare.run(data.config(f"data.exclude={others}")).exit_code == ExitCode.DONE
    store = WorkFolder(data.work).store
    only_store = data.config("data.source=null")
    capsys.readouterr()
    assert told(only_store, verify=True) == (ExitCode.DONE, "")
    array = max((store / "cases" / "hn_002").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(content)
    code, out = told(only_store, verify=True)
    assert code == ExitCode.SOME_FAILED
    assert "data set store" in out and "hn_002" in out and "run prepare" in out and "hn_001" not in out
    assert told(data.config(f"data.exclude={others}", "data.folds=2")) == (ExitCode.DONE, "")


def test_without_a_source_or_a_store_there_is_nothing_to_look_at(data: HeadNeck) -> None:
    with pytest.raises(UserError, match=r"data\.source: not set; .* --verify"):
        run(data.config("data.source=null"))
    with pytest.raises(UserError, match="no prepared cases; run prepare"):
        run(data.config("data.source=null"), verify=True)


def test_a_store_that_is_not_there_is_told_before_any_case_is_read(data: HeadNeck, monkeypatch) -> None:
    monkeypatch.setattr(doctor_data, "examine", lambda *_, **__: pytest.fail("a case was read"))
    with pytest.raises(UserError, match="no prepared cases; run prepare"):
        run(data.config(), verify=True)


# The command


def test_the_command_ends_with_the_summary_and_exit_code_1(data: HeadNeck) -> None:
    data.change("images/hn_001.nii.gz", shifted)
    words = [sys.executable, str(ROOT / "scripts/doctor.py"), "data", f"data.source={data.folder}", f"work={data.work}"]
    ended = subprocess.run(
        [*words, "prepare.workers=0", "prepare.spacing_mm=[3.5,3.5,3.5]"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert ended.returncode == ExitCode.SOME_FAILED, ended.stderr
    assert "HU shifted" in ended.stdout
    assert re.search(r"6 cases read in \d+ s: 1 error$", ended.stderr, re.MULTILINE)
    assert "data.exclude=[hn_001]" in ended.stderr
    assert list(data.work.rglob("*.*")) == [WorkFolder(data.work).log("doctor")]


def test_a_work_folder_that_cannot_be_written_is_no_hindrance(data: HeadNeck, told) -> None:
    data.work.write_text("a file")
    log.start(WorkFolder(data.work).log("doctor"))
    try:
        assert told(data.config()) == (ExitCode.DONE, "")
    finally:
        log.stop()
