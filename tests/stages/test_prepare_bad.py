"""Prepare on bad cases, which it names while the others go on, and on data sets that cannot be used."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from pipeline.config.load import load
from pipeline.errors import ExitCode, UserError
from pipeline.stages.prepare import run
from pipeline.store.reader import open_store

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
    with pytest.raises(UserError, match=r"data\.source: not set; expected a data set"):
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
    with pytest.raises(UserError, match=r"labels: neither the config nor .* names any class; add"):
        run(configure())


def test_classes_of_the_config_count_and_a_disagreement_is_told(configure, data_set, store: Path, caplog) -> None:
    run(configure("labels={organ: [1, 2, 3]}"))
    assert "labels: the config's {'organ': (1, 2, 3)} count, not those of" in caplog.text
    assert set(open_store(store)[0].counts) == {0, 1}
    caplog.clear()
    run(configure("labels={liver: 1, lung: [2, 3]}"))
    assert "the config's" not in caplog.text
