"""Which files are CTs or label maps, and what they are called."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.errors import UserError
from pipeline.files import stamp
from pipeline.formats.dispatch import (
    files_in,
    read_image,
    read_label,
    stamps_of,
    stem,
    write_label,
    written_name,
)
from pipeline.volume.grid import Grid
from pipeline.volume.volume import Volume


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.nii.gz", "a"),
        ("a.b.nii", "a.b"),
        ("A.NII.GZ", "A"),
        ("a.mha", "a"),
        ("a.Mhd", "a"),
        ("a.nrrd", "a"),
        ("a.nhdr", "a"),
        ("a.raw", None),
        ("a.gz", None),
        ("nii.gz", None),
        ("dataset.json", None),
    ],
)
def test_a_stem_is_a_name_without_the_suffix_of_a_known_format(name: str, expected: str | None) -> None:
    assert stem(Path(name)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.nii.gz", "a.nii.gz"),
        ("A.NII", "A.NII"),
        ("a.mha", "a.mha"),
        ("A.MHA", "A.mha"),
        ("a.mhd", "a.mha"),
        ("a.nrrd", "a.nrrd"),
        ("a.nhdr", "a.nrrd"),
        ("a.png", "a.png"),
    ],
)
def test_a_label_map_is_written_as_one_file_named_as_its_ct(name: str, expected: str) -> None:
    assert written_name(Path("folder") / name) == expected


def test_files_of_all_formats_are_found_by_case_and_others_are_not_looked_at(tmp_path: Path) -> None:
    for name in ("c.nrrd", "b.mha", "a.nii.gz", "a.raw", "notes.txt", ".hidden.nii"):
        (tmp_path / name).touch()
    assert list(files_in(tmp_path).items()) == [
        ("a", tmp_path / "a.nii.gz"),
        ("b", tmp_path / "b.mha"),
        ("c", tmp_path / "c.nrrd"),
    ]


@pytest.mark.parametrize("second", ["a.nii", "a.mha", "a.NRRD"])
def test_two_files_for_one_case_are_refused(tmp_path: Path, second: str) -> None:
    for name in ("a.nii.gz", second):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="two files for the case 'a'"):
        files_in(tmp_path)


@pytest.mark.parametrize(("header", "voxels"), [("ct.mhd", "ct.raw"), ("ct.nhdr", "ct.raw"), ("ct.mhd", "ct.zraw")])
def test_a_header_is_known_by_its_file_of_voxels_too(tmp_path: Path, header: str, voxels: str) -> None:
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.int16))
    sitk.WriteImage(image, str(tmp_path / header), voxels.endswith("zraw"))
    files = {"image": tmp_path / header}
    assert stamps_of(files) == {"image": stamp(tmp_path / header), "image voxels": stamp(tmp_path / voxels)}
    (tmp_path / voxels).unlink()
    assert stamps_of(files) == {"image": stamp(tmp_path / header)}


@pytest.mark.parametrize("name", ["ct.mha", "ct.nrrd", "ct.nii.gz"])
def test_any_other_file_is_known_by_itself(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert stamps_of({"image": path}) == {"image": None}
    path.write_bytes(b"no image")
    assert stamps_of({"image": path}) == {"image": stamp(path)}
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(path))
    assert stamps_of({"image": path}) == {"image": stamp(path)}


def test_voxels_in_many_files_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text("NDims = 3\nElementDataFile = LIST\na.raw\n")
    (tmp_path / "b.nhdr").write_text("NRRD0004\ndata file: b%d.raw 1 9 1\n\n")
    files = {"a": tmp_path / "a.mhd", "b": tmp_path / "b.nhdr"}
    assert stamps_of(files) == {role: stamp(path) for role, path in files.items()}


@pytest.mark.parametrize("suffix", ["mha", "nrrd", "mhd", "nhdr", "nii"])
def test_a_real_ct_is_the_same_volume_in_every_format(real_image: Path, tmp_path: Path, suffix: str) -> None:
    sitk.WriteImage(sitk.ReadImage(str(real_image)), str(tmp_path / f"ct.{suffix}"))
    expected, found = read_image(real_image), read_image(tmp_path / f"ct.{suffix}")
    assert found.voxels.dtype == expected.voxels.dtype
    np.testing.assert_array_equal(found.voxels, expected.voxels)
    np.testing.assert_allclose(found.grid.affine_mm, expected.grid.affine_mm, atol=1e-5)  # NIfTI's are float32


@pytest.mark.parametrize(("ct", "written"), [("ct.mha", "out.nii.gz"), ("ct.mha", "out.mhd"), ("ct.nii", "out.mha")])
def test_a_label_is_written_in_the_format_of_its_ct_only(
    real_image: Path, tmp_path: Path, ct: str, written: str
) -> None:
    sitk.WriteImage(sitk.ReadImage(str(real_image)), str(tmp_path / ct))
    volume = read_image(tmp_path / ct)
    with pytest.raises(ValueError, match="another format"):
        write_label(tmp_path / written, volume.voxels, volume)
    assert not (tmp_path / written).exists()


def test_a_label_for_a_volume_that_was_made_is_refused(tmp_path: Path) -> None:
    volume = Volume(np.zeros((2, 2, 2), np.uint8), Grid((2, 2, 2), np.eye(4)))
    with pytest.raises(ValueError, match="read from a file"):
        write_label(tmp_path / "out.nii.gz", volume.voxels, volume)


def test_a_file_of_no_known_format_is_named_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "ct.dcm").touch()
    with pytest.raises(UserError, match=r"ct\.dcm: expected a file of the format \.nii\.gz, .*\.nhdr"):
        read_label(tmp_path / "ct.dcm")
