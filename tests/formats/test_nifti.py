"""NIfTI files: what is read, what is refused with which sentence, what is written."""

import gzip
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.errors import UserError
from pipeline.formats.dispatch import read_image, read_label, write_label
from pipeline.formats.nifti import PLANES

Write = Callable[..., Path]
CUBE = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
ORIENTATIONS = ["".join(letters) for order in permutations(("RL", "AP", "SI")) for letters in product(*order)]


def rotation(degrees: float) -> np.ndarray:
    """Rotation about z."""
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def oriented_affine(orientation: str) -> np.ndarray:
    """An oblique affine of spacing 1, 2, 3 along its own axes, closest to the orientation."""
    to_ras = nib.orientations.axcodes2ornt(tuple(orientation))
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(to_ras):
        affine[int(world), axis] = sign * (axis + 1)
    affine[:3, :3] = rotation(12) @ affine[:3, :3]
    affine[:, 3] = (5, -6, 7, 1)
    return affine


# what is read


def test_real_ct_is_read_as_simpleitk_reads_it(real_image: Path) -> None:
    volume = read_image(real_image)
    oracle = sitk.DICOMOrient(sitk.ReadImage(str(real_image)), "LPS")  # ITK's LPS: index grows to L, P, S
    expected = np.transpose(sitk.GetArrayFromImage(oracle), (2, 1, 0))[::-1, ::-1]
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels, expected)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_is_read_in_ras_order_with_each_voxel_at_its_place(
    write_nifti: Write, orientation: str
) -> None:
    affine = oriented_affine(orientation)
    volume = read_image(write_nifti(CUBE, affine))
    assert nib.aff2axcodes(volume.grid.affine_mm) == ("R", "A", "S")
    for index in np.ndindex(CUBE.shape):
        place_mm = affine[:3, :3] @ index + affine[:3, 3]
        found = np.linalg.solve(volume.grid.affine_mm, [*place_mm, 1])[:3]
        assert volume.voxels[tuple(np.rint(found).astype(int))] == CUBE[index]
        np.testing.assert_allclose(found, np.rint(found), atol=1e-4)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32, np.float64, ">i2", ">f4"])
def test_whole_hu_become_int16_whatever_the_file_stores(write_nifti: Write, kind: str) -> None:
    volume = read_image(write_nifti(CUBE.astype(kind)))
    assert volume.voxels.dtype == np.int16
    assert volume.voxels.flags.c_contiguous and volume.voxels.flags.writeable
    np.testing.assert_array_equal(volume.voxels, CUBE)


@pytest.mark.parametrize(
    ("voxels", "expected"),
    [(np.float32([-0.5, 2]), np.float32([-0.5, 2])), (np.int32([-40000, 3]), np.float32([-40000, 3]))],
)
def test_hu_that_int16_cannot_hold_stay_float32(write_nifti: Write, voxels: np.ndarray, expected: np.ndarray) -> None:
    volume = read_image(write_nifti(voxels.reshape(2, 1, 1)))
    assert volume.voxels.dtype == np.float32
    np.testing.assert_array_equal(volume.voxels.ravel(), expected)


def set_slope(path: Path, slope: float, intercept: float) -> Path:
    """Write slope and intercept into the bytes of an uncompressed NIfTI-1 file."""
    data = bytearray(path.read_bytes())
    data[112:120] = np.float32([slope, intercept]).tobytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [(2, -1024, 2 * CUBE - 1024), (0.5, 0, CUBE / 2), (0, 9, CUBE), (np.nan, 9, CUBE), (1, 0, CUBE)],
)
def test_slope_and_intercept_count_unless_the_slope_is_zero_or_nan(
    write_nifti: Write, slope: float, intercept: float, expected: np.ndarray
) -> None:
    path = set_slope(write_nifti(CUBE, name="case.nii"), slope, intercept)
    volume = read_image(path)
    np.testing.assert_array_equal(volume.voxels, expected)
    np.testing.assert_array_equal(volume.voxels, nib.load(path).get_fdata())


def test_nifti_2_names_with_spaces_and_trailing_axes_of_one_are_read(write_nifti: Write) -> None:
    path = write_nifti(CUBE[..., None], name="Größe 1 ü.nii.gz", image_class=nib.Nifti2Image)
    np.testing.assert_array_equal(read_image(path).voxels, CUBE)


def test_sform_counts_and_without_its_code_the_qform(write_nifti: Write) -> None:
    def only_qform(header: nib.Nifti1Header) -> None:
        header.set_qform(np.diag([2, 2, 2, 1]), 1)
        header.set_sform(np.diag([9, 9, 9, 1]), 0)

    def only_sform(header: nib.Nifti1Header) -> None:
        header.set_qform(np.eye(4), 0)
        header.set_sform(np.diag([3, 3, 3, 1]), 2)

    assert read_image(write_nifti(CUBE, change=only_qform)).grid.spacing_mm == (2, 2, 2)
    assert read_image(write_nifti(CUBE, change=only_sform)).grid.spacing_mm == (3, 3, 3)


def test_label_values_are_those_of_the_file(write_nifti: Write, real_label: Path) -> None:
    assert np.unique(read_label(real_label).voxels).tolist() == [0, 1, 2, 3, 4, 5]
    whole = read_label(write_nifti(np.float64([0, 7, 255]).reshape(3, 1, 1)))
    assert whole.voxels.dtype.kind == "i" and whole.voxels.ravel().tolist() == [0, 7, 255]


def test_label_that_nibabel_stored_with_a_slope_is_whole_again(write_nifti: Write) -> None:
    path = set_slope(write_nifti(np.uint8([0, 51, 255]).reshape(3, 1, 1), name="case.nii"), 5 / 255, 0)
    assert read_label(path).voxels.ravel().tolist() == [0, 1, 5]


# what is refused


def refused(read: Callable[[Path], object], path: Path, *words: str) -> None:
    """The sentence names the file and has the words."""
    with pytest.raises(UserError) as caught:
        read(path)
    for word in (path.name, *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("text.nii.gz", b"this is not an image\n", "gzip"),
        ("text.nii", b"this is not an image\n" * 100, "not a NIfTI"),
        ("empty.nii.gz", b"", "empty"),
        ("empty.nii", b"", "empty"),
        ("zipped_nothing.nii.gz", gzip.compress(b""), "empty"),
        ("zipped_text.nii.gz", gzip.compress(b"x" * 1000), "not a NIfTI"),
        ("image.png", b"PNG", "expected a file of the format .nii.gz, .nii, .mha"),
    ],
)
def test_what_is_no_nifti_file_is_named(tmp_path: Path, name: str, data: bytes, word: str) -> None:
    (tmp_path / name).write_bytes(data)
    refused(read_image, tmp_path / name, word)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    refused(read_image, tmp_path / "nobody.nii.gz", "not found")
    (tmp_path / "folder.nii.gz").mkdir()
    refused(read_image, tmp_path / "folder.nii.gz", "cannot be read")


@pytest.mark.parametrize("kept", [5, 40, 0.5, 0.9, -1])
def test_a_truncated_gz_is_refused_wherever_it_ends(real_image: Path, tmp_path: Path, kept: float) -> None:
    data = real_image.read_bytes()
    path = tmp_path / "case.nii.gz"
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    refused(read_image, path, "gzip")


def test_a_flipped_bit_that_only_the_checksum_sees_is_refused(tmp_path: Path, write_nifti: Write) -> None:
    path = write_nifti(CUBE)
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # the first byte of the stored checksum
    path.write_bytes(data)
    refused(read_image, path, "CRC")


def test_a_truncated_nii_tells_how_much_is_missing(write_nifti: Write) -> None:
    path = write_nifti(CUBE, name="case.nii")
    path.write_bytes(path.read_bytes()[:-3])
    refused(read_image, path, "3 bytes are missing")


@pytest.mark.parametrize(
    ("shape", "word"), [((4, 5), "2D"), ((4,), "1D"), ((2, 3, 4, 2), "4D"), ((2, 3, 4, 1, 3), "5D")]
)
def test_volumes_without_three_axes_are_refused(write_nifti: Write, shape: tuple[int, ...], word: str) -> None:
    refused(read_image, write_nifti(np.zeros(shape, np.int16)), word)


def test_a_volume_without_voxels_is_refused(write_nifti: Write) -> None:
    path = write_nifti(CUBE, name="case.nii")
    data = bytearray(path.read_bytes())
    data[42:44] = np.int16(0).tobytes()  # dim[1]
    path.write_bytes(data)
    refused(read_image, path, "no voxels", "0 x 3 x 4")


@pytest.mark.parametrize("offset", [0, -8, np.nan, np.inf])
def test_voxels_that_begin_inside_the_header_are_refused(write_nifti: Write, offset: float) -> None:
    path = write_nifti(CUBE, name="case.nii")
    data = bytearray(path.read_bytes())
    data[108:112] = np.float32(offset).tobytes()  # vox_offset
    path.write_bytes(data)
    refused(read_image, path, "damaged NIfTI header")


def test_an_unknown_data_type_is_refused(write_nifti: Write) -> None:
    path = write_nifti(CUBE, name="case.nii")
    data = bytearray(path.read_bytes())
    data[70:72] = np.int16(12804).tobytes()  # datatype
    path.write_bytes(data)
    refused(read_image, path, "data type 12804")


def test_sizes_that_no_file_of_this_length_can_have_are_refused_before_memory_is_taken(write_nifti: Write) -> None:
    path = write_nifti(CUBE, name="case.nii")
    data = bytearray(path.read_bytes())
    data[42:48] = np.int16([32767] * 3).tobytes()  # dim[1:4]
    path.write_bytes(data)
    refused(read_image, path, "truncated")
    zipped = path.with_name("case.nii.gz")
    zipped.write_bytes(gzip.compress(data))
    refused(read_image, zipped, "truncated")


def test_bytes_behind_the_voxels_do_no_harm_but_behind_the_gzip_stream_do(write_nifti: Write) -> None:
    path = write_nifti(CUBE, name="case.nii")
    data = path.read_bytes() + b"more"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path).voxels, CUBE)
    zipped = path.with_name("case.nii.gz")
    zipped.write_bytes(gzip.compress(data))
    np.testing.assert_array_equal(read_image(zipped).voxels, CUBE)
    zipped.write_bytes(gzip.compress(data) + b"more")
    refused(read_image, zipped, "gzip")


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR", "PIL"])
def test_more_planes_than_are_read_at_once_are_all_read(write_nifti: Write, orientation: str) -> None:
    voxels = np.arange(3 * 70 * (2 * PLANES + 5), dtype=np.int16).reshape(3, 70, -1)
    path = write_nifti(voxels, oriented_affine(orientation))
    oracle = nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(read_image(path).voxels, np.asanyarray(oracle.dataobj))


def test_voxels_that_are_nan_or_infinite_are_counted(write_nifti: Write) -> None:
    voxels = CUBE.astype(np.float32)
    voxels[0, 0, :3] = np.nan, np.inf, -np.inf
    refused(read_image, write_nifti(voxels), "3 of 24 voxels", "-1024")
    refused(read_label, write_nifti(voxels), "3 of 24 voxels", "write the original integers, 0 for background")


def test_complex_voxels_and_colours_are_refused(write_nifti: Write) -> None:
    colour = np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(read_image, write_nifti(colour), "colours")
    refused(read_image, write_nifti(CUBE.astype(np.complex64)), "complex")


def test_fractions_in_a_label_are_refused_with_an_example(write_nifti: Write) -> None:
    rescaled = np.float32([0, 1 / 255, 1]).reshape(3, 1, 1)
    refused(read_label, write_nifti(rescaled), "0.003922", "rescaled to 0..1")
    refused(read_label, write_nifti(np.float32([0, 2.5, 4]).reshape(3, 1, 1)), "2.5")
    refused(read_label, write_nifti(np.float64([0, 1e12]).reshape(2, 1, 1)), "1e+12")


def zero_affine(header: nib.Nifti1Header) -> None:
    header.set_qform(np.eye(4), 0)
    header.set_sform(np.zeros((4, 4)), 1)


def nan_affine(header: nib.Nifti1Header) -> None:
    header["srow_x"][1] = np.nan


def zero_spacing(header: nib.Nifti1Header) -> None:
    header["pixdim"][2] = 0


def no_code(header: nib.Nifti1Header) -> None:
    header["qform_code"] = header["sform_code"] = 0


def bad_quaternion(header: nib.Nifti1Header) -> None:
    header.set_qform(np.eye(4), 1)
    header["quatern_b"] = 2


def sheared(header: nib.Nifti1Header) -> None:
    affine = np.eye(4)
    affine[0, 2] = 0.01
    header.set_qform(np.eye(4), 0)
    header.set_sform(affine, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (zero_affine, ("sform", "spacing 0 x 0 x 0")),
        (nan_affine, ("sform", "NaN")),
        (zero_spacing, ("spacing", "1 x 0 x 1")),
        (no_code, ("left and right", "set the sform or the qform")),
        (bad_quaternion, ("qform",)),
        (sheared, ("sheared", "0.01")),
    ],
)
def test_a_geometry_that_cannot_be_is_refused(
    write_nifti: Write, change: Callable[[nib.Nifti1Header], None], words: tuple[str, ...]
) -> None:
    refused(read_image, write_nifti(CUBE, change=change), *words)


@pytest.mark.parametrize(("shift_mm", "fine"), [(0.09, True), (0.11, False)])
def test_sform_and_qform_may_differ_by_a_tenth_of_a_voxel(write_nifti: Write, shift_mm: float, fine: bool) -> None:
    def shift(header: nib.Nifti1Header) -> None:
        moved = np.eye(4)
        moved[2, 3] = shift_mm
        header.set_sform(np.eye(4), 1)
        header.set_qform(moved, 1)

    path = write_nifti(CUBE, change=shift)
    if fine:
        assert read_image(path).grid.affine_mm[2, 3] == 0
    else:
        refused(read_image, path, "sform", "qform", str(shift_mm))


def test_a_missing_handedness_is_read_as_one(write_nifti: Write) -> None:
    def no_handedness(header: nib.Nifti1Header) -> None:
        header.set_qform(np.diag([1, 2, 3, 1]), 1)
        header["sform_code"] = 0
        header["pixdim"][0] = 0

    assert read_image(write_nifti(CUBE, change=no_handedness)).grid.spacing_mm == (1, 2, 3)


# what is written


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz"])
def test_a_label_goes_back_onto_the_voxels_it_was_read_from(
    write_nifti: Write, tmp_path: Path, orientation: str, name: str
) -> None:
    image = read_image(write_nifti(CUBE, oriented_affine(orientation)))
    write_label(tmp_path / name, image.voxels.astype(np.uint8), image)
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / name).dataobj), CUBE)


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
def test_geometry_is_kept_bit_by_bit_and_the_rest_is_set_anew(
    write_nifti: Write, tmp_path: Path, image_class: type[nib.Nifti1Image]
) -> None:
    def change(header: nib.Nifti1Header) -> None:
        header.set_qform(oriented_affine("LPS"), 1)
        header.set_sform(oriented_affine("LPS"), 2)
        header.set_xyzt_units("mm", "sec")
        header["pixdim"][4] = 2.5
        header["descrip"] = b"patient 17"
        header.set_slope_inter(2, -1024)

    path = write_nifti(CUBE[..., None], change=change, image_class=image_class)
    image = read_image(path)
    write_label(tmp_path / "out.nii.gz", np.full(image.voxels.shape, 300, np.uint16), image)
    before, after = nib.load(path).header, nib.load(tmp_path / "out.nii.gz").header
    assert type(after) is type(before)
    for field in ("dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
                  "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):  # fmt: skip
        assert before[field].tobytes() == after[field].tobytes(), field
    assert after.get_data_dtype() == np.uint16
    assert after.get_slope_inter() in ((None, None), (1.0, 0.0))
    assert after["descrip"].item() == b"hounsfield"


def test_simpleitk_sees_a_written_label_where_it_sees_the_ct(real_image: Path, tmp_path: Path) -> None:
    image = read_image(real_image)
    write_label(tmp_path / "out.nii.gz", (image.voxels > 300).astype(np.uint8), image)
    ct, label = (sitk.ReadImage(str(path)) for path in (real_image, tmp_path / "out.nii.gz"))
    assert (ct.GetSize(), ct.GetSpacing(), ct.GetOrigin(), ct.GetDirection()) == (
        (label.GetSize(), label.GetSpacing(), label.GetOrigin(), label.GetDirection())
    )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), sitk.GetArrayFromImage(ct) > 300)


def test_the_same_label_is_written_as_the_same_bytes(real_image: Path, tmp_path: Path) -> None:
    image = read_image(real_image)
    for name in ("first.nii.gz", "second.nii.gz"):
        write_label(tmp_path / name, (image.voxels > 300).astype(np.uint8), image)
    assert (tmp_path / "first.nii.gz").read_bytes() == (tmp_path / "second.nii.gz").read_bytes()


def test_a_label_of_another_shape_is_not_written(real_image: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels of"):
        write_label(tmp_path / "out.nii.gz", np.zeros((128, 64, 256), np.uint8), read_image(real_image))
    assert list(tmp_path.iterdir()) == []
