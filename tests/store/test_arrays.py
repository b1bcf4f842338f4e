"""Arrays in their files, as they are and compressed."""

import errno
import hashlib
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.store.arrays import read_list, read_voxels, write_list, write_voxels
from pipeline.store.blocks import pack, unpack
from pipeline.store.layout import Layout

CT = Path(__file__).parents[2] / "examples" / "head_neck" / "images" / "hn_001.nii.gz"
LAYOUTS = (Layout(".raw", (3, 4), 2), Layout(".lz4", (3, 4), 2), Layout(".lz4", (30, 40), 1))


def read(file: Path, facts: dict, layout: Layout, array: np.ndarray, start: tuple, size: tuple) -> np.ndarray:
    box = np.empty(size, array.dtype)
    read_voxels(file, facts["sha256"], layout, array.shape, start, box)
    return box


@pytest.mark.parametrize(("layout", "kind"), list(product(LAYOUTS, (np.int16, np.uint8))))
def test_any_box_is_read_as_it_was_written(tmp_path: Path, layout: Layout, kind: type) -> None:
    limits = np.iinfo(kind)
    array = np.random.default_rng(0).integers(limits.min, limits.max, (5, 7, 9), kind, endpoint=True)
    facts = write_voxels(tmp_path / "a", array, layout)
    for start in product((0, 1, 4), (0, 3, 5), (0, 4, 7)):
        for size in product((1, 5), (1, 2, 7), (2, 9)):
            size = tuple(min(n, whole - first) for n, whole, first in zip(size, array.shape, start, strict=True))
            box = tuple(slice(first, first + n) for first, n in zip(start, size, strict=True))
            np.testing.assert_array_equal(read(tmp_path / "a", facts, layout, array, start, size), array[box])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_size_and_hash_are_those_of_the_file(tmp_path: Path, layout: Layout) -> None:
    facts = write_voxels(tmp_path / "a", np.arange(60, dtype=np.int16).reshape(3, 4, 5), layout)
    written = (tmp_path / "a").read_bytes()
    assert facts == {"size": len(written), "sha256": hashlib.sha256(written).hexdigest()}


def test_a_list_is_a_plain_npy_file(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int32).reshape(4, 3)
    facts = write_list(tmp_path / "a.npy", array)
    written = (tmp_path / "a.npy").read_bytes()
    assert facts == {"size": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), array)
    np.testing.assert_array_equal(read_list(tmp_path / "a.npy", facts["sha256"]), array)


@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_a_full_disk_is_told_as_such(layout: Layout) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (50, 50, 50)).astype(np.int16)
    with pytest.raises(OSError, match="No space left on device") as told:
        write_voxels(Path("/dev/full"), noise, layout)
    assert told.value.errno == errno.ENOSPC


@given(st.sampled_from([np.int16, np.uint8]), st.tuples(*[st.integers(1, 6)] * 3), st.integers(0, 2**32 - 1))
def test_a_block_comes_back(kind: type, shape: tuple[int, int, int], seed: int) -> None:
    limits = np.iinfo(kind)
    block = np.random.default_rng(seed).integers(limits.min, limits.max, shape, kind, endpoint=True)
    found = unpack(pack(block), shape, np.dtype(kind))
    np.testing.assert_array_equal(found, block)
    assert found.dtype == kind


def test_a_ct_shrinks(tmp_path: Path) -> None:
    voxels = np.asarray(nib.load(CT).dataobj).astype(np.int16)
    packed = write_voxels(tmp_path / "a", voxels, Layout(".lz4", (32, 96), 32))["size"]
    assert packed < voxels.nbytes / 3


def first_block(data: bytearray) -> bytes:
    return bytes(data[:40]) + b"\xff" * (len(data) - 40)


def table_of_offsets(data: bytearray) -> bytes:
    return b"\xff" * 40 + bytes(data[40:])


@pytest.mark.parametrize("spoil", [first_block, table_of_offsets, lambda data: bytes(data[:30])])
def test_compressed_nonsense_gets_its_sentence(tmp_path: Path, spoil) -> None:
    file, layout = tmp_path / "label.lz4", Layout(".lz4", (3, 4), 2)
    array = np.ones((4, 6, 4), np.uint8)
    facts = write_voxels(file, array, layout)
    file.write_bytes(spoil(bytearray(file.read_bytes())))
    with pytest.raises(UserError, match=r"label\.lz4: cannot be read any more .*run prepare with prepare\.verify=true"):
        read(file, facts, layout, array, (0, 0, 0), array.shape)


def test_a_file_that_became_too_short_gets_its_sentence(tmp_path: Path) -> None:
    file, array = tmp_path / "image.raw", np.ones((4, 6, 4), np.int16)
    facts = write_voxels(file, array, LAYOUTS[0])
    for left in (100, 0):
        file.write_bytes(file.read_bytes()[:left])
        with pytest.raises(UserError, match=r"image\.raw: cannot be read any more"):
            read(file, {"sha256": f"{facts['sha256']} {left}"}, LAYOUTS[0], array, (0, 0, 0), array.shape)
