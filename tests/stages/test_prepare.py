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

from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.errors import ExitCode, UserError
from pipeline.files import hash_file
from pipeline.labels import Labels
from pipeline.stages.data import cases_of, labels_of, training_cases
from pipeline.stages.prepare import run
from pipeline.store.reader import PreparedCase, open_store
from pipeline.volume.nifti import read_image, read_label
from pipeline.volume.resample import resample_labels, to_training_grid

ROOT = Path(__file__).parents[2]
HEAD_NECK = ROOT / "examples" / "head_neck"
SHAPE = (14, 12, 10)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
DESCRIPTION = {"labels": {"background": 0, "liver": 1, "lung": [2, 3]}}


def ct() -> np.ndarray:
    """A block of tissue that fills the volume, with texture."""
    return np.random.default_rng(0).integers(-100, 200, SHAPE).astype(np.int16)


def label_map() -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[2:7, 2:7, 2:7], voxels[8:12, 2:7, 2:7] = 1, 3
    return voxels


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def add(source: Path, name: str, image: np.ndarray | None = None, label: np.ndarray | None = None) -> None:
    """Add a sound case to a data set, or one with this image or label."""
    write(source / "images" / f"{name}.nii.gz", ct() if image is None else image)
    write(source / "labels" / f"{name}.nii.gz", label_map() if label is None else label)


def describe(source: Path, **keys: Any) -> None:
    (source / "dataset.json").write_text(json.dumps(DESCRIPTION | keys))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A data set with two sound training cases, a and b, and one test case, t."""
    folder = tmp_path / "source"
    for name in "abt":
        add(folder, name)
    describe(folder, test=["t"])
    return folder


@pytest.fixture
def configure(tmp_path: Path, source: Path) -> Callable[..., Config]:
    """Return a function of overrides to the config of the data set, prepared in this process."""

    def make(*overrides: str) -> Config:
        standard = [
            f"work={tmp_path / 'work'}",
            f"data.source={source}",
            "prepare.workers=0",
            "prepare.spacing_mm=[2,2,4]",
        ]
        return load([*standard, *overrides])

    return make


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "work" / "store"


# What is stored


def test_a_prepared_case_is_the_ct_and_its_label_on_the_training_grid(tmp_path: Path) -> None:
    config = load([f"work={tmp_path}", f"data.source={HEAD_NECK}", "prepare.workers=0", "prepare.spacing_mm=[4,4,5]"])
    others = [case.name for case in cases_of(config) if case.name not in ("hn_001", "hn_077")]
    config = load([f"work={tmp_path}", f"data.source={HEAD_NECK}", "prepare.workers=0", "prepare.spacing_mm=[4,4,5]",
                   f"data.exclude={json.dumps(others)}"])  # fmt: skip
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


def test_only_training_cases_are_prepared_and_the_store_lists_them_all(configure, source: Path, store: Path) -> None:
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
    assert listed["cases"][2]["image"] == str(source / "images" / "t.nii.gz")
    assert listed["spacing_mm"] == [2, 2, 4]


def test_the_record_of_a_case_names_its_sources_by_hash(configure, source: Path, store: Path) -> None:
    run(configure())
    facts = json.loads((store / "cases" / "a" / "case.json").read_text())
    for role in ("images", "labels"):
        file = source / role / "a.nii.gz"
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


def test_names_with_spaces_and_any_letters_go_through(configure, source: Path, store: Path) -> None:
    add(source, "Fall 7 (große Ähre) 患者")
    assert "Fall 7 (große Ähre) 患者" in run(configure()).done
    assert "Fall 7 (große Ähre) 患者" in [case.name for case in open_store(store)]


@pytest.mark.parametrize("name", ["records", "cases", "done.json", "cases.json"])
def test_no_case_name_stands_in_the_way_of_the_stores_own_files(configure, source: Path, name: str) -> None:
    add(source, name)
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
def test_a_changed_file_makes_its_case_again_and_no_other(configure, source: Path, role: str) -> None:
    run(configure())
    os.utime(source / role / "b.nii.gz", ns=(1, 1))
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


def test_a_new_case_is_added_and_one_that_is_gone_is_forgotten(configure, source: Path, store: Path) -> None:
    run(configure())
    add(source, "c")
    (source / "images" / "a.nii.gz").unlink()
    (source / "labels" / "a.nii.gz").unlink()
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


def sheared(source: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 1] = 0.5
    write(source / "labels" / "b.nii.gz", label_map(), affine)


def shifted(source: Path) -> None:
    affine = AFFINE.copy()
    affine[2, 3] = 5
    write(source / "labels" / "b.nii.gz", label_map(), affine)


def value_255(source: Path) -> None:
    add(source, "b", label=np.where(label_map() == 1, 255, 0).astype(np.uint8))


def value_7(source: Path) -> None:
    add(source, "b", label=np.where(label_map() == 1, 7, 0).astype(np.uint8))


def fraction(source: Path) -> None:
    add(source, "b", label=(label_map() / 255).astype(np.float32))


def flat(source: Path) -> None:
    add(source, "b", image=ct()[..., 0])


def four_axes(source: Path) -> None:
    add(source, "b", image=np.stack([ct(), ct()], axis=3))


def truncated(source: Path) -> None:
    file = source / "images" / "b.nii.gz"
    file.write_bytes(file.read_bytes()[:-500])


def text(source: Path) -> None:
    (source / "images" / "b.nii.gz").write_text("this is no image")


def empty_file(source: Path) -> None:
    (source / "labels" / "b.nii.gz").write_bytes(b"")


def not_a_number(source: Path) -> None:
    image = ct().astype(np.float32)
    image[3, 3, 3] = np.nan
    add(source, "b", image=image)


def windowed(source: Path) -> None:
    add(source, "b", image=np.clip((ct() + 200) / 600, 0, 1).astype(np.float32))


def patched(source: Path, fields: dict[str, Any]) -> None:
    """Write header fields into the file as they are, where nibabel would mend them."""
    file = source / "images" / "b.nii"
    (source / "images" / "b.nii.gz").unlink()
    write(file, ct())
    data = bytearray(file.read_bytes())
    header = np.ndarray((), nib.Nifti1Header.template_dtype, data)
    for name, value in fields.items():
        header[name] = value
    file.write_bytes(data)


def affine_of_zeros(source: Path) -> None:
    patched(source, {"srow_x": 0, "srow_y": 0, "srow_z": 0, "sform_code": 1, "qform_code": 0})


def spacing_of_zero(source: Path) -> None:
    patched(source, {"pixdim": [1, 2, 0, 2, 0, 0, 0, 0]})


def without_label(source: Path) -> None:
    (source / "labels" / "b.nii.gz").unlink()


def broken_link(source: Path) -> None:
    (source / "images" / "b.nii.gz").unlink()
    (source / "images" / "b.nii.gz").symlink_to(source / "gone.nii.gz")


BAD = {
    shifted: r"labels/b\.nii\.gz lies on another grid than .*images/b\.nii\.gz: .* from \(0, 0, 5\) against .*\(0, 0, 0\)",
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
    configure, source: Path, store: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(source)
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


def test_a_case_that_turns_bad_is_not_trained_on_as_it_was(configure, source: Path, store: Path) -> None:
    run(configure())
    truncated(source)
    assert list(run(configure()).failed) == ["b"]
    with pytest.raises(UserError, match=r"not prepared as the data and the config stand \(b\)"):
        open_store(store)


def test_a_test_case_without_a_label_is_no_failure(configure, source: Path) -> None:
    (source / "labels" / "t.nii.gz").unlink()
    assert run(configure()).exit_code == ExitCode.DONE


def test_an_empty_label_in_one_case_is_told_and_prepared(configure, source: Path, caplog) -> None:
    add(source, "b", label=np.zeros(SHAPE, np.uint8))
    assert run(configure()).done == ("a", "b")
    assert "1 of 2 cases have an empty label: b" in caplog.text
    assert "training will refuse" not in caplog.text


def test_an_empty_label_in_every_case_is_told_to_be_useless(configure, source: Path, caplog) -> None:
    for name in "ab":
        add(source, name, label=np.zeros(SHAPE, np.uint8))
    assert run(configure()).exit_code == ExitCode.DONE
    assert "no case has a voxel of liver, lung: training will refuse to start" in caplog.text


def test_labels_in_the_air_around_the_body_are_told(configure, source: Path, caplog) -> None:
    image, label = np.full(SHAPE, -1000, np.int16), np.zeros(SHAPE, np.uint8)
    image[10:, 3:9, 3:7], label[12, 5, 5], label[0, 0, :3] = 40, 1, 1
    add(source, "b", image=image, label=label)
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


def test_two_files_for_one_case_are_refused(configure, source: Path) -> None:
    write(source / "images" / "a.nii", ct())
    with pytest.raises(UserError, match=r"two files for the case 'a'"):
        run(configure())


def test_no_classes_anywhere_are_refused(configure, source: Path) -> None:
    (source / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"labels: neither the config nor .*dataset\.json names any class; add"):
        run(configure())


def test_classes_of_the_config_count_and_a_disagreement_is_told(configure, source: Path, store: Path, caplog) -> None:
    run(configure("labels={organ: [1, 2, 3]}"))
    assert "labels: the config's {'organ': (1, 2, 3)} count, not those of" in caplog.text
    assert set(open_store(store)[0].counts) == {0, 1}
    caplog.clear()
    run(configure("labels={liver: 1, lung: [2, 3]}"))
    assert "the config's" not in caplog.text


# What the next stages find


def test_training_finds_everything_without_the_source(configure, source: Path, tmp_path: Path) -> None:
    describe(source, test=["t"], patients={"a": "p", "b": "p"}, swap=[["liver", "lung"]])
    run(configure())
    source.rename(tmp_path / "elsewhere")
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


def test_without_a_source_cases_and_classes_are_those_of_the_store(configure, source: Path) -> None:
    run(configure())
    config = configure("data.source=null")
    assert labels_of(config) == labels_of(configure())
    assert cases_of(config) == cases_of(configure())
    assert [case.image for case in cases_of(config) if case.split == "test"] == [source / "images" / "t.nii.gz"]


def test_nothing_that_prepare_imports_needs_torch() -> None:
    code = "import sys, pipeline.stages.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
