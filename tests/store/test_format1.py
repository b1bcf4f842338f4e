"""A store of the first format: two cases of 6 mm, cut from examples/head_neck and prepared when it was the only one.

Its arrays are .npy files in the order of C, which NumPy itself reads here.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.store.catalogue import Catalogue
from pipeline.store.reader import PreparedCase, open_store
from pipeline.store.verify import verify

SAMPLE = Path(__file__).parent / "data" / "format1"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return shutil.copytree(SAMPLE, tmp_path / "store")


def test_the_sample_is_of_the_first_format() -> None:
    assert json.loads((SAMPLE / "cases.json").read_text())["format"] == 1
    assert json.loads((SAMPLE / "cases" / "hn_001" / "case.json").read_text())["format"] == 1


def test_it_opens_as_a_whole(store: Path) -> None:
    catalogue = Catalogue.read(store)
    assert catalogue.labels.names == ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Mandible")
    assert [case.name for case in open_store(store)] == ["hn_001", "hn_002"]
    assert [case.name for case in catalogue.cases if case.split == "test"] == ["hn_077"]


@pytest.mark.parametrize("name", ["hn_001", "hn_002"])
def test_its_patches_and_coordinates_are_what_was_stored(store: Path, name: str) -> None:
    folder = store / "cases" / name
    image, label = np.load(folder / "image.npy"), np.load(folder / "label.npy")
    case = PreparedCase.open(folder)
    for found, array, outside in zip(case.read((-3, 2, 1), (20, 30, 4)), (image, label), (-1024, 0), strict=True):
        np.testing.assert_array_equal(found, np.pad(array, 40, constant_values=outside)[37:57, 42:72, 41:45])
    for index in range(1, 6):
        np.testing.assert_array_equal(case.foreground(index), np.argwhere(label == index))
        assert case.counts[index] == (label == index).sum()


def test_it_is_verified(store: Path) -> None:
    assert verify(store) == []


def test_its_damage_is_told(store: Path) -> None:
    image = store / "cases" / "hn_001" / "image.npy"
    image.write_bytes(image.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"image\.npy: 6751 bytes, expected 6752: .*run prepare"):
        open_store(store)
