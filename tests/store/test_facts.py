"""Files of a prepared case that were cut short, altered, copied or touched since."""

import json
import os
import shutil
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.store.reader import PreparedCase

FILES = ["image.raw", "label.raw", "foreground.npy"]
MADE_AGAIN = "run prepare, which makes this case again"


def rewrite(folder: Path, **changed: object) -> None:
    facts = json.loads((folder / "case.json").read_text())
    kept = {key: value for key, value in (facts | changed).items() if value is not None}
    (folder / "case.json").write_text(json.dumps(kept))


def flip_last_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def make_younger(folder: Path, file: str) -> None:
    told = (folder / "case.json").stat().st_mtime_ns
    os.utime(folder / file, ns=(told + 10**9, told + 10**9))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("left", [None, 0, 100])
def test_a_missing_or_shortened_array_is_refused(make_case, file: str, left: int | None) -> None:
    folder, _, _ = make_case()
    size = (folder / file).stat().st_size
    if left is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes((folder / file).read_bytes()[:left])
    found = "not found" if left is None else f"{left} bytes, expected {size}: cut short or altered"
    with pytest.raises(UserError, match=rf"{file}: {found}; {MADE_AGAIN}"):
        PreparedCase.open(folder)


@pytest.mark.parametrize("file", FILES)
def test_an_array_that_was_altered_afterwards_is_refused_each_time(make_case, file: str) -> None:
    folder, _, _ = make_case()
    flip_last_bit(folder / file)
    make_younger(folder, file)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{file}: altered since it was written \(SHA-256 .*\); {MADE_AGAIN}"):
            PreparedCase.open(folder)


def test_a_copied_case_is_compared_once_and_then_only_looked_at(make_case, tmp_path: Path) -> None:
    folder = shutil.copytree(make_case()[0], tmp_path / "copy")
    make_younger(folder, "image.raw")
    PreparedCase.open(folder)
    told, changed = ((folder / file).stat().st_mtime_ns for file in ("case.json", "image.raw"))
    assert told >= changed
    flip_last_bit(folder / "image.raw")
    os.utime(folder / "image.raw", ns=(changed, changed))
    PreparedCase.open(folder)  # what hides its time of change is found by `verify` only


def test_a_younger_array_in_a_store_of_somebody_else_is_compared(make_case, monkeypatch) -> None:
    folder, _, _ = make_case()
    make_younger(folder, "label.raw")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    assert PreparedCase.open(folder).name == "case"


def test_another_format_is_refused(make_case) -> None:
    folder, _, _ = make_case()
    rewrite(folder, format=99)
    with pytest.raises(UserError, match=r"case\.json: format 99, expected 1 or 2; run prepare"):
        PreparedCase.open(folder)


@pytest.mark.parametrize("written", ['{"format": 2,', "", "\x00\x01"])
def test_a_fact_sheet_that_was_cut_short_is_refused(make_case, written: str) -> None:
    folder, _, _ = make_case()
    (folder / "case.json").write_text(written)
    with pytest.raises(UserError, match=r"case\.json: not valid JSON"):
        PreparedCase.open(folder)


@pytest.mark.parametrize("written", ["[]", "3", '"case"', "{}"])
def test_a_fact_sheet_of_something_else_is_refused(make_case, written: str) -> None:
    folder, _, _ = make_case()
    (folder / "case.json").write_text(written)
    with pytest.raises(UserError, match=r"case\.json: format None, expected"):
        PreparedCase.open(folder)


@pytest.mark.parametrize(
    "changed", [{"checksum": None}, {"counts": None}, {"arrays": {}}, {"name": "other"}, {"counts": {"1": 7}}]
)
def test_a_fact_sheet_that_was_altered_is_refused(make_case, changed: dict) -> None:
    folder, _, _ = make_case()
    rewrite(folder, **changed)
    with pytest.raises(UserError, match=rf"case\.json: altered since it was written \(.*\); {MADE_AGAIN}"):
        PreparedCase.open(folder)
