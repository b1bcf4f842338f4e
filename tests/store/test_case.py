"""What `write_case` writes, `PreparedCase` reads."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.files import remove
from pipeline.store.reader import PreparedCase
from pipeline.store.writer import write_case
from pipeline.volume.grid import Grid
from pipeline.volume.intensity import histogram
from pipeline.volume.volume import Volume

POSITION = st.tuples(*[st.integers(-12, 12)] * 3)
SIZE = st.tuples(*[st.integers(1, 15)] * 3)


@pytest.fixture
def stored(make_case):
    """One prepared case, the same for every example of a property."""
    return make_case()


def test_facts_come_back_as_they_were_written(make_case) -> None:
    folder, image, encoded = make_case()
    case = PreparedCase.open(folder)
    assert (case.name, case.key, case.put_back) == ("case", "key", {3: 1})
    assert case.grid.shape_vox == (9, 8, 7)
    assert case.grid.spacing_mm == (2.0, 2.0, 3.0)
    assert case.source_grid.shape_vox == (20, 18, 16)
    assert (case.crop_start_vox, case.crop_shape_vox) == ((1, 2, 3), (18, 16, 13))
    assert case.counts == {value: int((encoded == value).sum()) for value in (0, 1, 3, 255)}
    np.testing.assert_array_equal(case.histogram, histogram(image))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(start=POSITION, shape=SIZE)
def test_a_box_anywhere_is_that_of_the_array_padded_with_air_and_background(stored, start, shape) -> None:
    folder, image, encoded = stored
    found = PreparedCase.open(folder).read(start, shape)
    box = tuple(slice(27 + first, 27 + first + size) for first, size in zip(start, shape, strict=True))
    for array, padded in zip(found, (np.pad(image, 27, constant_values=-1024), np.pad(encoded, 27)), strict=True):
        np.testing.assert_array_equal(array, padded[box])
        assert array.dtype == padded.dtype
        assert array.flags.c_contiguous and array.flags.writeable


def test_a_case_that_vanishes_after_it_was_opened_gets_its_sentence(make_case) -> None:
    folder, _, _ = make_case()
    case = PreparedCase.open(folder)
    remove(folder)
    with pytest.raises(UserError, match=r"label\.raw: cannot be read any more .*run prepare with prepare\.verify=true"):
        case.read((0, 0, 0), (9, 8, 7))
    with pytest.raises(UserError, match=r"foreground\.npy: cannot be read any more"):
        case.foreground(1)


def test_what_is_done_to_a_box_is_not_done_to_the_store(make_case) -> None:
    folder, image, _ = make_case()
    case = PreparedCase.open(folder)
    case.read((0, 0, 0), (9, 8, 7))[0][:] = 0
    np.testing.assert_array_equal(case.read((0, 0, 0), (9, 8, 7))[0], image)


def test_foreground_is_where_the_class_is(make_case) -> None:
    folder, _, encoded = make_case()
    case = PreparedCase.open(folder)
    for label in (1, 3):
        np.testing.assert_array_equal(case.foreground(label), np.argwhere(encoded == label))
        assert case.foreground(label).dtype == np.int32
    for absent in (0, 2, 4, 255):
        assert case.foreground(absent).shape == (0, 3)


def test_a_case_without_any_class_can_be_stored(make_case) -> None:
    folder, _, _ = make_case(encoded=np.zeros((3, 4, 5), np.uint8))
    case = PreparedCase.open(folder)
    assert case.counts == {0: 60}
    assert case.foreground(1).shape == (0, 3)


def test_a_case_sent_to_another_process_reads_the_same_and_takes_no_voxels_along(make_case) -> None:
    folder, _, _ = make_case(encoded=np.ones((60, 50, 40), np.uint8))
    case = PreparedCase.open(folder)
    case.read((0, 0, 0), (1, 1, 1))
    sent = pickle.dumps(case)
    assert len(sent) < 20_000
    np.testing.assert_array_equal(pickle.loads(sent).read((5, 4, 3), (2, 2, 2))[0], case.read((5, 4, 3), (2, 2, 2))[0])


def test_a_case_made_again_is_not_mistaken_for_the_old_one(make_case) -> None:
    folder, _, _ = make_case(encoded=np.zeros((4, 4, 4), np.uint8))
    assert PreparedCase.open(folder).read((0, 0, 0), (1, 1, 1))[1].item() == 0
    remove(folder)
    make_case(encoded=np.ones((4, 4, 4), np.uint8))
    assert PreparedCase.open(folder).read((0, 0, 0), (1, 1, 1))[1].item() == 1


def test_hashes_are_those_of_the_files(make_case) -> None:
    folder, _, _ = make_case()
    hashes = PreparedCase.open(folder).hashes
    assert set(hashes) == {"image.raw", "label.raw", "foreground.npy"}
    assert all(hashlib.sha256((folder / file).read_bytes()).hexdigest() == hashed for file, hashed in hashes.items())


def test_the_same_voxels_make_the_same_bytes(make_case) -> None:
    first = {path.name: path.read_bytes() for path in make_case("case")[0].iterdir()}
    remove(make_case("other")[0].parent / "case")
    assert {path.name: path.read_bytes() for path in make_case("case")[0].iterdir()} == first


def test_voxels_of_another_type_are_not_written(tmp_path: Path) -> None:
    grid, labels = Grid((2, 2, 2), np.eye(4)), np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="float32"):
        write_case(tmp_path / "x", "x", Volume(np.zeros((2, 2, 2), np.float32), grid), labels,
                   key="", source_grid=grid, crop=((0, 0, 0), (2, 2, 2)), put_back={}, sources={})  # fmt: skip


def test_a_folder_without_a_case_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing: no prepared case; run prepare"):
        PreparedCase.open(tmp_path / "nothing")
