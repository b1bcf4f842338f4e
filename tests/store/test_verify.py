"""Verification reads what opening only looks at."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.cases import Case
from pipeline.errors import UserError
from pipeline.files import hash_json
from pipeline.labels import Labels
from pipeline.store.catalogue import Catalogue
from pipeline.store.verify import verify

FILES = ["image.raw", "label.raw", "foreground.npy"]


@pytest.fixture
def store(tmp_path: Path, make_case) -> Path:
    """A store with the sound training cases a, b and c, and a test case that is not prepared."""
    cases = [Case(name, Path("i"), Path("l"), name, "test" if name == "t" else "train") for name in "abct"]
    Catalogue(Labels({"x": (1,), "y": (2,), "z": (3,)}), (2, 2, 3), tuple(cases), dict.fromkeys("abc", "key")).write(
        tmp_path
    )
    for name in "abc":
        make_case(name)
    return tmp_path


def alter_unseen(file: Path, data: bytes) -> None:
    status = file.stat()
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_sound_store_has_no_problem(store: Path) -> None:
    assert verify(store) == []


@pytest.mark.parametrize("file", FILES)
def test_an_array_that_was_altered_and_hides_it_is_named(store: Path, file: str) -> None:
    path = store / "cases" / "b" / file
    alter_unseen(path, path.read_bytes()[:-1] + b"\x2a")
    (problem,) = verify(store)
    assert problem.startswith(f"{path}: altered since it was written")


def test_every_damaged_case_is_named_and_missing_ones_too(store: Path) -> None:
    (store / "cases" / "a" / "image.raw").write_bytes(b"")
    (store / "cases" / "c" / "case.json").unlink()
    problems = verify(store)
    assert len(problems) == 2
    assert "image.raw: 0 bytes" in problems[0]
    assert problems[1].startswith(f"{store / 'cases' / 'c'}: no prepared case")


def test_a_missing_file_is_told_as_such(store: Path) -> None:
    (store / "cases" / "b" / "label.raw").unlink()
    (problem,) = verify(store)
    assert problem.startswith(f"{store / 'cases' / 'b' / 'label.raw'}: not found; run prepare")


def alter_facts(folder: Path, **changed: object) -> None:
    facts = json.loads((folder / "case.json").read_text())
    del facts["checksum"]
    facts |= changed
    (folder / "case.json").write_text(json.dumps(facts | {"checksum": hash_json(facts)}))


def test_counts_that_are_not_those_of_the_labels_are_told(store: Path) -> None:
    alter_facts(store / "cases" / "a", counts={"0": 504})
    (problem,) = verify(store)
    assert "other counts than case.json says" in problem


def test_a_class_that_the_store_does_not_know_is_told(store: Path, make_case) -> None:
    catalogue = Catalogue.read(store)
    Catalogue(Labels({"x": (1,)}), (2, 2, 3), catalogue.cases, catalogue.keys).write(store)
    problems = verify(store)
    assert len(problems) == 3
    assert all("class index 3, but the store has 1 classes" in problem for problem in problems)


def test_a_case_of_other_settings_is_told(store: Path) -> None:
    alter_facts(store / "cases" / "a", key="of other files")
    (problem,) = verify(store)
    assert "not prepared as the data and the config stand" in problem


def test_compressed_cases_are_verified(store: Path, make_case) -> None:
    catalogue = Catalogue.read(store)
    folder, _, _ = make_case("d", encoded=np.full((40, 50, 60), 2, np.uint8), compress="lz4")
    named = (*catalogue.cases, Case("d", Path("i"), Path("l"), "d", "validation"))
    Catalogue(catalogue.labels, (2, 2, 3), named, {**catalogue.keys, "d": "key"}).write(store)
    assert verify(store) == []
    alter_unseen(folder / "image.lz4", (folder / "image.lz4").read_bytes()[::-1])
    assert len(verify(store)) == 1


def test_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no prepared cases"):
        verify(tmp_path / "nowhere")
