"""MetaImage and NRRD files: SimpleITK is the oracle of where a voxel lies."""

import re
import resource
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.errors import UserError, explain
from pipeline.formats.dispatch import read_image, read_label, write_label
from pipeline.volume.volume import Volume

LPS_TO_RAS = np.array([-1, -1, 1])
CUBE = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
AXES = [np.eye(3)[:, list(order)] * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
Write = Callable[..., Path]


def itk_image(voxels: np.ndarray, direction: np.ndarray | None = None) -> sitk.Image:
    """Return (x, y, z) voxels as an ITK image of spacing 0.7, 1.1 and 2.5 mm."""
    image = sitk.GetImageFromArray(voxels.T)
    image.SetOrigin((1.5, -20.25, 300.125))
    image.SetSpacing((0.7, 1.1, 2.5))
    image.SetDirection((np.eye(3) if direction is None else direction).ravel().tolist())
    return image


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write voxels in directions as a file of a name; return its path."""

    def write(
        name: str, voxels: np.ndarray = CUBE, direction: np.ndarray | None = None, *, packed: bool = False
    ) -> Path:
        sitk.WriteImage(itk_image(voxels, direction), str(tmp_path / name), packed)
        return tmp_path / name

    return write


def check_places(volume: Volume, path: Path) -> None:
    """Every voxel of a file is in the volume where ITK says that it lies, in closest RAS+ order."""
    image = sitk.ReadImage(str(path))
    assert nib.aff2axcodes(volume.grid.affine_mm) == ("R", "A", "S")
    for index in np.ndindex(image.GetSize()):
        place_mm = LPS_TO_RAS * image.TransformIndexToPhysicalPoint(index)
        found = np.linalg.solve(volume.grid.affine_mm, [*place_mm, 1])[:3]
        np.testing.assert_allclose(found, np.rint(found), atol=1e-6)
        assert volume.voxels[tuple(np.rint(found).astype(int))] == image[index]


# what is read


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_every_direction_is_read_in_ras_order_with_each_voxel_at_its_place(
    write: Write, axes: np.ndarray, suffix: str
) -> None:
    oblique = Rotation.from_euler("xyz", (10, -15, 20), degrees=True).as_matrix() @ axes
    path = write(f"case.{suffix}", CUBE, oblique)
    volume = read_image(path)
    assert volume.voxels.dtype == np.int16 and volume.voxels.flags.c_contiguous
    check_places(volume, path)
    assert sorted(volume.grid.spacing_mm) == pytest.approx([0.7, 1.1, 2.5])


@settings(max_examples=40)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.05, 20)] * 3),
    origin=st.tuples(*[st.floats(-1000, 1000)] * 3),
    suffix=st.sampled_from(["mha", "nrrd", "mhd", "nhdr"]),
)
def test_a_label_goes_back_onto_the_geometry_it_was_read_from(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    turn: tuple[float, float, float],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    suffix: str,
) -> None:
    folder = tmp_path_factory.mktemp("itk")
    image = itk_image(
        np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), Rotation.from_euler("xyz", turn, True).as_matrix()
    )
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(folder / f"ct.{suffix}"))
    volume = read_image(folder / f"ct.{suffix}")
    check_places(volume, folder / f"ct.{suffix}")
    written = folder / {"mhd": "out.mha", "nhdr": "out.nrrd"}.get(suffix, f"out.{suffix}")
    write_label(written, volume.voxels.astype(np.uint16), volume)
    ct, label = sitk.ReadImage(str(folder / f"ct.{suffix}")), sitk.ReadImage(str(written))
    assert label.GetSize() == ct.GetSize()
    for found, expected in [
        (label.GetOrigin(), ct.GetOrigin()),
        (label.GetSpacing(), ct.GetSpacing()),
        (label.GetDirection(), ct.GetDirection()),
    ]:
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)  # NRRD keeps spacing times direction
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), sitk.GetArrayFromImage(ct))
    assert label.GetPixelID() == sitk.sitkUInt16


def test_a_metaimage_label_has_the_geometry_bit_by_bit_and_nothing_of_the_patient(write: Write, tmp_path: Path) -> None:
    image = itk_image(CUBE, Rotation.from_euler("xyz", (3, 1, -2), True).as_matrix())
    image.SetMetaData("PatientName", "someone")
    sitk.WriteImage(image, str(tmp_path / "ct.mha"))
    volume = read_image(tmp_path / "ct.mha")
    write_label(tmp_path / "out.mha", volume.voxels, volume)
    ct, label = (sitk.ReadImage(str(tmp_path / name)) for name in ("ct.mha", "out.mha"))
    assert (label.GetOrigin(), label.GetSpacing(), label.GetDirection()) == (
        (ct.GetOrigin(), ct.GetSpacing(), ct.GetDirection())
    )
    assert b"someone" in (tmp_path / "ct.mha").read_bytes()
    assert b"PatientName" not in (tmp_path / "out.mha").read_bytes()


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64])
def test_whole_hu_become_int16_and_labels_integers_whatever_the_file_stores(
    write: Write, kind: type, suffix: str
) -> None:
    path = write(f"case.{suffix}", CUBE.astype(kind), packed=True)
    image, label = read_image(path), read_label(path)
    assert image.voxels.dtype == np.int16 and label.voxels.dtype.kind in "iu"
    np.testing.assert_array_equal(image.voxels, CUBE[::-1, ::-1])  # ITK's identity is LPS
    np.testing.assert_array_equal(label.voxels, CUBE[::-1, ::-1])


@pytest.mark.parametrize(
    ("space", "signs"),
    [("right-anterior-superior", (1, 1, 1)), ("LAS", (-1, 1, 1)), ("left-posterior-superior", (-1, -1, 1))],
)
def test_nrrd_of_any_anatomical_space_is_read(tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
    path = write_nrrd(tmp_path, f"space: {space}", "space directions: (1,0,0) (0,2,0) (0,0,3)", "space origin: (5,6,7)")
    volume = read_image(path)
    place_mm = signs * np.array([5 + 1, 6 + 2 * 2, 7 + 3 * 3])  # of the voxel (1, 2, 3)
    index = np.linalg.solve(volume.grid.affine_mm, [*place_mm, 1])[:3]
    assert volume.voxels[tuple(np.rint(index).astype(int))] == CUBE[1, 2, 3]


def test_a_fourth_axis_of_one_is_read_and_written_again(tmp_path: Path) -> None:
    image = sitk.JoinSeries(itk_image(CUBE))
    image.SetSpacing((0.7, 1.1, 2.5, 4.0))
    sitk.WriteImage(image, str(tmp_path / "ct.mha"))
    volume = read_image(tmp_path / "ct.mha")
    np.testing.assert_array_equal(volume.voxels, CUBE[::-1, ::-1])
    write_label(tmp_path / "out.mha", volume.voxels, volume)
    label = sitk.ReadImage(str(tmp_path / "out.mha"))
    assert label.GetSize() == (2, 3, 4, 1)
    assert label.GetSpacing() == (0.7, 1.1, 2.5, 4.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label)[0], CUBE.T)


def test_a_name_in_capital_letters_with_spaces_and_letters_beyond_ascii_is_read(write: Write) -> None:
    path = write("case.mha")
    named = path.rename(path.with_name("Größe 1 ü.MHA"))
    np.testing.assert_array_equal(read_image(named).voxels, CUBE[::-1, ::-1])


@pytest.mark.parametrize("packed", [False, True])
def test_a_metaimage_may_say_in_small_letters_that_its_voxels_follow(write: Write, packed: bool) -> None:
    path = write("case.mha", packed=packed)
    path.write_bytes(path.read_bytes().replace(b"= LOCAL", b"= Local"))
    np.testing.assert_array_equal(read_image(path).voxels, CUBE[::-1, ::-1])


# what is refused


def refused(path: Path, *words: str) -> None:
    """The sentence is one line, names the file and has the words."""
    with pytest.raises(UserError) as caught:
        read_image(path)
    for word in (path.name, *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["case.mha", "case.nrrd", "case.mhd", "case.nhdr"])
def test_what_is_no_such_file_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    refused(path, "not found")
    path.write_bytes(b"")
    refused(path)
    path.write_bytes(b"this is not an image\n" * 100)
    refused(path)
    path.unlink()
    path.mkdir()
    refused(path, "cannot be read")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
@pytest.mark.parametrize("kept", [0.2, 0.7, 0.95])
def test_a_truncated_file_is_refused_wherever_it_ends(write: Write, suffix: str, packed: bool, kept: float) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    path = write(f"case.{suffix}", noise, packed=packed)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    refused(path, "copy or make it again")


def test_a_truncated_metaimage_tells_how_much_is_missing(write: Write) -> None:
    path = write("case.mha")
    path.write_bytes(path.read_bytes()[:-3])
    refused(path, "3 bytes are missing")


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_packed_voxels_with_a_flipped_bit_are_refused(write: Write, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    path = write(f"case.{suffix}", noise, packed=True)
    whole = path.read_bytes()
    for place in (-len(whole) // 2, -1000, -2):  # the last is in the checksum of the one, in the size of the other
        data = bytearray(whole)
        data[place] ^= 16
        path.write_bytes(data)
        refused(path, "damaged")


def test_packed_voxels_of_which_too_few_are_to_be_read_are_refused(write: Write) -> None:
    path = write("case.mha", np.random.default_rng(0).integers(0, 9, (20, 20, 20)), packed=True)
    data = path.read_bytes()
    (size,) = re.findall(rb"CompressedDataSize = (\d+)", data)
    for stated in (str(int(size) - 5).encode(), b"many", b"0"):
        path.write_bytes(data.replace(size, stated, 1))
        refused(path, "again")
    path.write_bytes(data.replace(b"DimSize = 20", b"DimSize = 19", 1))
    refused(path, "64000 bytes of voxels", "promises 60800")


@pytest.mark.parametrize(("header", "data"), [("case.mhd", "case.raw"), ("case.nhdr", "case.raw")])
def test_a_file_of_voxels_that_is_missing_or_cut_short_is_named(write: Write, header: str, data: str) -> None:
    path = write(header)
    voxels = path.with_name(data)
    voxels.write_bytes(voxels.read_bytes()[:-2])
    with pytest.raises(UserError, match="truncated"):
        read_image(path)
    voxels.unlink()
    refused(path)


def test_slices_and_series_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(CUBE[0]), str(tmp_path / "slice.mha"))
    refused(tmp_path / "slice.mha", "2D", "4 x 3", "not a slice")
    sitk.WriteImage(sitk.JoinSeries([itk_image(CUBE), itk_image(CUBE)]), str(tmp_path / "series.mha"))
    refused(tmp_path / "series.mha", "4D", "2 x 3 x 4 x 2")


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_vectors_complex_numbers_and_nan_are_refused(tmp_path: Path, write: Write, suffix: str) -> None:
    vectors = sitk.GetImageFromArray(np.zeros((4, 3, 2, 3), np.int16), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / f"vectors.{suffix}"))
    refused(tmp_path / f"vectors.{suffix}", "3 numbers a voxel")
    waves = sitk.GetImageFromArray(np.zeros((4, 3, 2), np.complex64))
    if suffix == "mha":  # NRRD has no complex numbers
        sitk.WriteImage(waves, str(tmp_path / f"waves.{suffix}"))
        refused(tmp_path / f"waves.{suffix}", "complex")
    nan = CUBE.astype(np.float32)
    nan[0, 0, 0] = np.nan
    refused(write(f"nan.{suffix}", nan), "1 of 24 voxels are NaN")


def write_nrrd(folder: Path, *fields: str) -> Path:
    """Write the cube as NRRD with further fields."""
    head = ["NRRD0004", "type: short", "dimension: 3", "sizes: 2 3 4", "endian: little", "encoding: raw", *fields]
    path = folder / "case.nrrd"
    path.write_bytes("\n".join(head).encode() + b"\n\n" + CUBE.tobytes(order="F"))
    return path


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((), ("left and right are unknown", "space is none")),
        (("spacings: 1 2 3",), ("left and right are unknown",)),
        (("space: scanner-xyz", "space directions: (1,0,0) (0,1,0) (0,0,1)"), ("space is scanner-xyz",)),
        (("space: LPS", "space directions: (1,0,0) (0.5,2,0) (0,0,3)"), ("sheared",)),
        (("space: LPS", "space directions: (1,0,0) (0,0,0) (0,0,3)"), ("spacing 1 x 0 x 3",)),
    ],
)
def test_a_nrrd_geometry_that_cannot_be_is_refused(
    tmp_path: Path, fields: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(write_nrrd(tmp_path, *fields), *words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("TransformMatrix", "Note", ("no TransformMatrix", "left and right are unknown")),
        ("ElementSpacing", "Note", ("no ElementSpacing",)),
        ("DimSize", "Note", ("DimSize is missing",)),
        ("= LOCAL", "=", ("not found",)),
        ("= LOCAL", "= nowhere.raw", ("nowhere.raw: not found",)),
        ("= MET_SHORT", "= MET_COMPLEX", ()),
        ("= 2 3 4", "= 2 0 4", ("no voxels",)),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0.1 1 0 0 0 1", ("sheared",)),
        ("1 0 0 0 1 0 0 0 1", "0 0 0 0 0 0 0 0 0", ("spacing 0 x 0 x 0",)),
        ("2.5", "-2.5", ("spacing 0.7 x 1.1 x -2.5",)),
    ],
)
def test_a_metaimage_header_that_cannot_be_is_refused(write: Write, old: str, new: str, words: tuple[str, ...]) -> None:
    path = write("case.mha")
    data = path.read_bytes()
    assert old.encode() in data
    path.write_bytes(data.replace(old.encode(), new.encode(), 1))
    refused(path, *words)


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
@pytest.mark.parametrize("refused", [1, 100, 5000, 20_000])
def test_a_disk_that_refuses_some_of_the_bytes_is_told_and_leaves_what_stood_there(
    write: Write, tmp_path: Path, suffix: str, refused: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 5, (40, 40, 40)).astype(np.int16)
    volume, path = read_image(write(f"case.{suffix}", noise)), tmp_path / f"out.{suffix}"
    write_label(path, volume.voxels.astype(np.uint8), volume)
    whole, (soft, hard) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) - refused, hard))
        with pytest.raises(OSError) as caught:
            write_label(path, volume.voxels.astype(np.uint8), volume)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (explain(caught.value) or "").startswith(f"{path}: ")
    assert path.read_bytes() == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"case.{suffix}", path.name]


def test_a_label_that_cannot_be_written_leaves_what_stood_there(write: Write, tmp_path: Path) -> None:
    volume = read_image(write("case.mha"))
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(OSError):
        write_label(tmp_path / "folder" / "out.mha", volume.voxels, volume)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case.mha", "folder"]
