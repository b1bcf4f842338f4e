"""Prepare as a user runs it, on small made-up data sets and on one real CT."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.config.load import load
from pipeline.errors import ExitCode, UserError
from pipeline.files import hash_file
from pipeline.formats.dispatch import read_image, read_label
from pipeline.stages.prepare import run
from pipeline.store.reader import PreparedCase, open_store
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
    alone = {path.name: path.read_bytes() for path in (store / "cases" / "a").iterdir()}
    assert {"image.raw", "label.raw", "foreground.npy", "case.json"} == set(alone)
    elsewhere = configure("prepare.workers=2", f"data.store={store.parent / 'other'}")
    assert set(run(elsewhere).done) == {"a", "b"}
    assert {path.name: path.read_bytes() for path in (store.parent / "other/cases/a").iterdir()} == alone


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


@pytest.mark.parametrize("suffix", ["mhd", "nhdr"])
def test_voxels_that_change_beside_their_header_make_the_case_again(
    configure, data_set, store: Path, suffix: str
) -> None:
    packed, image = data_set.folder / "images" / "b.nii.gz", data_set.folder / "images" / f"b.{suffix}"
    sitk.WriteImage(sitk.ReadImage(str(packed)), str(image))
    packed.unlink()
    assert run(configure()).done == ("a", "b")
    voxels = image.with_suffix(".raw")
    assert json.loads((store / "cases/b/case.json").read_text())["sources"]["image voxels"]["path"] == str(voxels)
    voxels.write_bytes(np.full(data_set.image.shape, 50, np.int16).tobytes()[:-2] + b"\x00\x00")
    assert run(configure()).done == ("b",)
    assert (open_store(store)[1].read((0, 0, 0), (5, 5, 2))[0] == 50).all()


@pytest.mark.parametrize(
    ("override", "again"),
    [
        ("prepare.spacing_mm=[2,2,5]", True),
        ("labels={liver: 1, lung: [2, 3, 4]}", True),
        ("labels={liver: 1, lung: 2, air: 3}", True),
        ("labels={lung: [2, 3], liver: 1}", False),
        ("labels={organ: [1, 2, 3]}", False),
        ("store.compress=lz4", True),
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


def test_shards_together_make_everything(configure, store: Path) -> None:
    assert run(configure("prepare.shard=1/2")).done == ("a",)
    with pytest.raises(UserError, match=r"1 of 2 training cases are not prepared .*\(b\)"):
        open_store(store)
    assert run(configure("prepare.shard=2/2")).done == ("b",)
    assert len(open_store(store)) == 2
    assert (store / "done.json").exists()


def test_nothing_that_prepare_imports_needs_torch() -> None:
    code = "import sys, pipeline.stages.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
