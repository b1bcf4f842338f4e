"""Prepare as a user runs it, on small made-up data sets and on one real CT."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from pipeline.config.load import load
from pipeline.errors import ExitCode, UserError
from pipeline.files import hash_file
from pipeline.stages.prepare import run
from pipeline.store.reader import PreparedCase, open_store
from pipeline.volume.nifti import read_image, read_label
from pipeline.volume.resample import resample_labels, to_training_grid

ROOT = Path(__file__).parents[2]
HEAD_NECK = ROOT / "examples" / "head_neck"


# What is stored


def test_a_prepared_case_is_the_ct_and_its_label_on_the_training_grid(tmp_path: Path) -> None:
    names = [file.name.removesuffix(".nii.gz") for file in (HEAD_NECK / "images").iterdir()]
    others = [name for name in names if name != "hn_001"]
    overrides = ["prepare.workers=0", "prepare.spacing_mm=[4,4,5]", f"data.exclude={json.dumps(others)}"]
    config = load([f"work={tmp_path}", f"data.source={HEAD_NECK}", *overrides])
    assert run(config).done == ("hn_001",)
    (case,) = open_store(tmp_path / "store", others)
    image, label = (
        read(HEAD_NECK / role / "hn_001.nii.gz") for role, read in (("images", read_image), ("labels", read_label))
    )
    expected, start, shape = to_training_grid(image, (4, 4, 5))
    box = tuple(slice(first, first + size) for first, size in zip(start, shape, strict=True))
    encoded, _ = resample_labels(label.voxels[box].astype(np.uint8), image.grid.crop(start, shape), expected.grid)
    voxels, labels = case.read((0, 0, 0), case.grid.shape_vox)
    np.testing.assert_array_equal(voxels, expected.voxels)
    np.testing.assert_array_equal(labels, encoded)
    assert case.grid.matches(expected.grid, 1e-9)
    np.testing.assert_allclose(case.grid.spacing_mm, (4, 4, 5), rtol=1e-12)
    assert case.source_grid.matches(image.grid, 1e-9)
    assert (case.crop_start_vox, case.crop_shape_vox) == (start, shape)
    assert [case.counts[index] > 0 for index in range(1, 6)] == [True] * 5


def test_only_training_cases_are_prepared_and_the_store_lists_them_all(configure, data_set, store: Path) -> None:
    outcome = run(configure())
    assert (outcome.done, outcome.skipped, dict(outcome.failed), outcome.exit_code) == (
        ("a", "b"),
        (),
        {},
        ExitCode.DONE,
    )
    assert [case.name for case in open_store(store)] == ["a", "b"]
    listed = json.loads((store / "cases.json").read_text())
    assert [(case["name"], case["split"]) for case in listed["cases"]] == [
        ("a", "train"),
        ("b", "train"),
        ("t", "test"),
    ]
    assert listed["cases"][2]["image"] == str(data_set.folder / "images" / "t.nii.gz")
    assert listed["spacing_mm"] == [2, 2, 4]


def test_the_record_of_a_case_names_its_sources_by_hash(configure, data_set, store: Path) -> None:
    run(configure())
    facts = json.loads((store / "cases" / "a" / "case.json").read_text())
    for role in ("images", "labels"):
        file = data_set.folder / role / "a.nii.gz"
        assert facts["sources"][role.removesuffix("s")]["sha256"] == hash_file(file)
        assert facts["sources"][role.removesuffix("s")]["size"] == file.stat().st_size


def test_a_table_says_what_was_prepared(configure, capsys) -> None:
    run(configure())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 prepared cases in")
    assert lines[2].split("  ")[0] == "a"
    assert "14 x 12 x 10" in lines[2] and "2 x 2 x 2" in lines[2] and "14 x 12 x 5" in lines[2] and "2 of 2" in lines[2]


def test_spawned_processes_make_the_same_bytes(configure, store: Path) -> None:
    run(configure())
    alone = {path.name: path.read_bytes() for path in (store / "cases" / "a").glob("*.npy")}
    elsewhere = configure("prepare.workers=2", f"data.store={store.parent / 'other'}")
    assert set(run(elsewhere).done) == {"a", "b"}
    assert {path.name: path.read_bytes() for path in (store.parent / "other/cases/a").glob("*.npy")} == alone


def test_names_with_spaces_and_any_letters_go_through(configure, data_set, store: Path) -> None:
    data_set.add("Fall 7 (große Ähre) 患者")
    assert "Fall 7 (große Ähre) 患者" in run(configure()).done
    assert "Fall 7 (große Ähre) 患者" in [case.name for case in open_store(store)]


@pytest.mark.parametrize("name", ["records", "cases", "done.json", "cases.json"])
def test_no_case_name_stands_in_the_way_of_the_stores_own_files(configure, data_set, name: str) -> None:
    data_set.add(name)
    assert name in run(configure()).done
    assert name in run(configure()).skipped


# Again


def test_a_second_run_makes_nothing_again(configure, store: Path) -> None:
    run(configure())
    before = {path: path.stat().st_mtime_ns for path in (store / "cases").rglob("*")}
    outcome = run(configure())
    assert (outcome.done, outcome.skipped) == ((), ("a", "b"))
    assert {path: path.stat().st_mtime_ns for path in (store / "cases").rglob("*")} == before


@pytest.mark.parametrize("role", ["images", "labels"])
def test_a_changed_file_makes_its_case_again_and_no_other(configure, data_set, role: str) -> None:
    run(configure())
    os.utime(data_set.folder / role / "b.nii.gz", ns=(1, 1))
    outcome = run(configure())
    assert (outcome.done, outcome.skipped) == (("b",), ("a",))


@pytest.mark.parametrize(
    ("override", "again"),
    [
        ("prepare.spacing_mm=[2,2,5]", True),
        ("labels={liver: 1, lung: [2, 3, 4]}", True),
        ("labels={lung: [2, 3], liver: 1}", True),
        ("labels={liver: 1, lung: [2, 3], ignore: 9}", True),
        ("labels={hepar: 1, pulmo: [3, 2], swap: [[hepar, pulmo]]}", False),
        ("intensity.window_hu=[-100,100]", False),
        ("sample.patch_vox=[8,8,8]", False),
        ("data.folds=2", False),
        ("seed=7", False),
    ],
)
def test_cases_are_made_again_only_when_that_changes_their_bits(configure, override: str, again: bool) -> None:
    run(configure())
    assert run(configure(override)).done == (("a", "b") if again else ())


def test_a_new_case_is_added_and_one_that_is_gone_is_forgotten(configure, data_set, store: Path) -> None:
    run(configure())
    data_set.add("c")
    (data_set.folder / "images" / "a.nii.gz").unlink()
    (data_set.folder / "labels" / "a.nii.gz").unlink()
    assert run(configure()).done == ("c",)
    assert [case.name for case in open_store(store)] == ["b", "c"]
    assert PreparedCase.open(store / "cases" / "a").name == "a"


def test_a_damaged_prepared_case_is_made_again(configure, store: Path) -> None:
    run(configure())
    (store / "cases" / "a" / "image.npy").write_bytes(b"")
    assert run(configure()).done == ("a",)
    assert len(open_store(store)) == 2


def test_shards_together_make_everything(configure, store: Path) -> None:
    assert run(configure("prepare.shard=1/2")).done == ("a",)
    with pytest.raises(UserError, match=r"1 of 2 training cases are not prepared .*\(b\)"):
        open_store(store)
    assert run(configure("prepare.shard=2/2")).done == ("b",)
    assert len(open_store(store)) == 2
    assert (store / "done.json").exists()


# One bad case


def sheared(data_set) -> None:
    affine = data_set.affine.copy()
    affine[0, 1] = 0.5
    data_set.write("labels/b.nii.gz", data_set.label, affine)


def shifted(data_set) -> None:
    affine = data_set.affine.copy()
    affine[2, 3] = 5
    data_set.write("labels/b.nii.gz", data_set.label, affine)


def value_255(data_set) -> None:
    data_set.add("b", label=np.where(data_set.label == 1, 255, 0).astype(np.uint8))


def value_7(data_set) -> None:
    data_set.add("b", label=np.where(data_set.label == 1, 7, 0).astype(np.uint8))


def fraction(data_set) -> None:
    data_set.add("b", label=(data_set.label / 255).astype(np.float32))


def flat(data_set) -> None:
    data_set.add("b", image=data_set.image[..., 0])


def four_axes(data_set) -> None:
    data_set.add("b", image=np.stack([data_set.image, data_set.image], axis=3))


def truncated(data_set) -> None:
    file = data_set.folder / "images" / "b.nii.gz"
    file.write_bytes(file.read_bytes()[:-500])


def text(data_set) -> None:
    (data_set.folder / "images" / "b.nii.gz").write_text("this is no image")


def empty_file(data_set) -> None:
    (data_set.folder / "labels" / "b.nii.gz").write_bytes(b"")


def not_a_number(data_set) -> None:
    image = data_set.image.astype(np.float32)
    image[3, 3, 3] = np.nan
    data_set.add("b", image=image)


def windowed(data_set) -> None:
    data_set.add("b", image=np.clip((data_set.image + 200) / 600, 0, 1).astype(np.float32))


def patched(data_set, fields: dict[str, Any]) -> None:
    """Write header fields into the file as they are, where nibabel would mend them."""
    file = data_set.folder / "images" / "b.nii"
    (data_set.folder / "images" / "b.nii.gz").unlink()
    data_set.write("images/b.nii", data_set.image)
    data = bytearray(file.read_bytes())
    header = np.ndarray((), nib.Nifti1Header.template_dtype, data)
    for name, value in fields.items():
        header[name] = value
    file.write_bytes(data)


def affine_of_zeros(data_set) -> None:
    patched(data_set, {"srow_x": 0, "srow_y": 0, "srow_z": 0, "sform_code": 1, "qform_code": 0})


def spacing_of_zero(data_set) -> None:
    patched(data_set, {"pixdim": [1, 2, 0, 2, 0, 0, 0, 0]})


def without_label(data_set) -> None:
    (data_set.folder / "labels" / "b.nii.gz").unlink()


def broken_link(data_set) -> None:
    (data_set.folder / "images" / "b.nii.gz").unlink()
    (data_set.folder / "images" / "b.nii.gz").symlink_to(data_set.folder / "gone.nii.gz")


BAD = {
    shifted: r"labels/b\.nii\.gz lies on another grid than .*/b\.nii\.gz: .* from \(0, 0, 5\) against .*\(0, 0, 0\)",
    sheared: r"labels/b\.nii\.gz: .*sheared",
    value_255: r"labels/b\.nii\.gz \(case b\): label values 255 \(125 voxels\) belong to no class",
    value_7: r"labels/b\.nii\.gz \(case b\): label values 7 \(125 voxels\) belong to no class",
    fraction: r"labels/b\.nii\.gz: label value 0\.00392",
    flat: r"images/b\.nii\.gz: 2D \(shape 14 x 12\)",
    four_axes: r"images/b\.nii\.gz: 4D \(shape 14 x 12 x 10 x 2\)",
    truncated: r"images/b\.nii\.gz: truncated",
    text: r"images/b\.nii\.gz: not a sound gzip file",
    empty_file: r"labels/b\.nii\.gz: empty file",
    not_a_number: r"images/b\.nii\.gz: 1 of 1680 voxels are NaN",
    windowed: r"images/b\.nii\.gz: values from .* expected HU",
    affine_of_zeros: r"images/b\.nii: sform has spacing 0 x 0 x 0 mm",
    spacing_of_zero: r"images/b\.nii: spacing \(pixdim\) 2 x 0 x 2 mm",
    without_label: r"images/b\.nii\.gz has no label map; expected .*labels/b\.nii\.gz",
    broken_link: r"images/b\.nii\.gz: not found",
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD.items(), ids=[spoil.__name__ for spoil in BAD])
def test_a_bad_case_is_named_and_the_others_are_prepared(
    configure, data_set, store: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(data_set)
    outcome = run(configure())
    assert outcome.done == ("a",)
    assert list(outcome.failed) == ["b"]
    assert outcome.exit_code == ExitCode.SOME_FAILED
    assert "\n" not in outcome.failed["b"]
    assert re.search(sentence, outcome.failed["b"])
    with pytest.raises(UserError, match=r"1 of 2 training cases are not prepared"):
        open_store(store)
    assert run(configure("data.exclude=[b]")).skipped == ("a",)
    assert [case.name for case in open_store(store, ["b"])] == ["a"]


def test_a_case_that_turns_bad_is_not_trained_on_as_it_was(configure, data_set, store: Path) -> None:
    run(configure())
    truncated(data_set)
    assert list(run(configure()).failed) == ["b"]
    with pytest.raises(UserError, match=r"not prepared as the data and the config stand \(b\)"):
        open_store(store)


def test_a_test_case_without_a_label_is_no_failure(configure, data_set) -> None:
    (data_set.folder / "labels" / "t.nii.gz").unlink()
    assert run(configure()).exit_code == ExitCode.DONE


def test_an_empty_label_in_one_case_is_told_and_prepared(configure, data_set, caplog) -> None:
    data_set.add("b", label=np.zeros_like(data_set.label))
    assert run(configure()).done == ("a", "b")
    assert "1 of 2 cases have an empty label: b" in caplog.text
    assert "training will refuse" not in caplog.text


def test_an_empty_label_in_every_case_is_told_to_be_useless(configure, data_set, caplog) -> None:
    for name in "ab":
        data_set.add(name, label=np.zeros_like(data_set.label))
    assert run(configure()).exit_code == ExitCode.DONE
    assert "no case has a voxel of liver, lung: training will refuse to start" in caplog.text


def test_labels_in_the_air_around_the_body_are_told(configure, data_set, caplog) -> None:
    image, label = np.full_like(data_set.image, -1000), np.zeros_like(data_set.label)
    image[10:, 3:9, 3:7], label[12, 5, 5], label[0, 0, :3] = 40, 1, 1
    data_set.add("b", image=image, label=label)
    run(configure())
    assert "b: 3 labelled voxels lie in the air around the body and were cut off" in caplog.text


# A bad data set


def test_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.source: not set; expected a folder"):
        run(load([f"work={tmp_path}"]))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.exclude=[aa]", r"data\.exclude: there is no case 'aa'"),
        ("data.exclude=[a, b]", r"has no training case"),
        ("data.exclude=[a, b, t]", r"data\.exclude: all 3 cases are left out"),
        ("data.source=nowhere", r"nowhere"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_refused(configure, store: Path, override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        run(configure(override))
    assert not store.exists()


def test_two_files_for_one_case_are_refused(configure, data_set) -> None:
    data_set.write("images/a.nii", data_set.image)
    with pytest.raises(UserError, match=r"two files for the case 'a'"):
        run(configure())


def test_no_classes_anywhere_are_refused(configure, data_set) -> None:
    (data_set.folder / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"labels: neither the config nor .*dataset\.json names any class; add"):
        run(configure())


def test_classes_of_the_config_count_and_a_disagreement_is_told(configure, data_set, store: Path, caplog) -> None:
    run(configure("labels={organ: [1, 2, 3]}"))
    assert "labels: the config's {'organ': (1, 2, 3)} count, not those of" in caplog.text
    assert set(open_store(store)[0].counts) == {0, 1}
    caplog.clear()
    run(configure("labels={liver: 1, lung: [2, 3]}"))
    assert "the config's" not in caplog.text


def test_nothing_that_prepare_imports_needs_torch() -> None:
    code = "import sys, pipeline.stages.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
