"""A file or folder is whole or not there, whatever interrupts its writing."""

import errno
import hashlib
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.files import hash_file, hash_json, read_json, remove, replacing, stamp, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "new folder" / "ö.txt", "one")
    write_text(tmp_path / "new folder" / "ö.txt", "zwei ä")
    assert (tmp_path / "new folder" / "ö.txt").read_text(encoding="utf-8") == "zwei ä"
    assert names(tmp_path / "new folder") == ["ö.txt"]


def test_a_disk_that_refuses_the_bytes_when_they_are_flushed_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.txt"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_system_that_cannot_flush_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", impossible)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_the_temporary_name_keeps_the_suffixes(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.nii.gz") as temporary:
        assert temporary.name.endswith("a.nii.gz") and temporary.name.startswith(".partial-")
        temporary.touch()
    assert names(tmp_path) == ["a.nii.gz"]


def test_a_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with replacing(tmp_path / "case") as temporary:
            (temporary / "deep").mkdir(parents=True)
            (temporary / "deep" / content).write_text(content)
    assert names(tmp_path) == ["case"]
    assert names(tmp_path / "case" / "deep") == ["new"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(error), replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def filled(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


def test_a_folder_is_removed_once_the_new_one_is_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = filled(tmp_path / "folder", "old")
    found: list[str] = []

    def removing(path: Path) -> None:
        found.append((place / "file").read_text())
        remove(path)

    monkeypatch.setattr("pipeline.files.remove", removing)
    with replacing(place) as temporary:
        filled(temporary, "new")
    assert found[0] == "new"


def test_a_folder_that_cannot_be_replaced_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = filled(tmp_path / "folder", "old")
    real, renamed = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        renamed.append(self)
        if len(renamed) == 3:  # the new folder, after the old one was moved aside
            raise OSError(errno.EIO, "no luck")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no luck"), replacing(place) as temporary:
        filled(temporary, "new")
    assert (place / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with pytest.raises(ValueError), replacing(tmp_path / "a") as temporary:
        temporary.mkdir()
        raise ValueError
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["old"]


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove(tmp_path / "nothing")


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    remove(tmp_path / "link")
    assert names(tmp_path) == ["data"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_json_is_read_back_unchanged(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    file = tmp_path_factory.mktemp("json") / "a.json"
    try:
        write_json(file, value)
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert read_json(file) == value


def test_json_has_no_not_a_number_and_the_old_file_stays(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"dice": 0.5})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"dice": math.nan})
    assert read_json(tmp_path / "a.json") == {"dice": 0.5}


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "not found"), (b"", "not valid JSON"), (b'{"a": 1', "not valid"), (b"\xff", "not valid")],
)
def test_json_that_cannot_be_read_names_the_file(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_json(tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(caught.value)


def test_a_stamp_changes_with_size_and_with_time_of_change(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    os.utime(file, ns=(10, 20))
    assert stamp(file) == {"path": str(file), "size": 5, "mtime_ns": 20}


def test_the_hash_of_a_value_does_not_depend_on_the_order_of_keys() -> None:
    assert hash_json({"a": 1, "b": [1, 2]}) == hash_json({"b": [1, 2], "a": 1})
    assert hash_json({"a": 1, "b": [1, 2]}) != hash_json({"a": 1, "b": [2, 1]})
    assert hash_json({}) == hashlib.sha256(b"{}").hexdigest()[:16]


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 300_000)
    assert hash_file(tmp_path / "a") == hashlib.sha256(b"x" * 300_000).hexdigest()
