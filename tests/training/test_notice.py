"""The notice that a scheduler must give."""

import time
from pathlib import Path

import pytest

from pipeline.errors import Superseded
from pipeline.files import read_json
from pipeline.training.notice import FILE, Notice


def test_the_longest_operation_is_told_with_ten_seconds_more(tmp_path: Path) -> None:
    notice = Notice(tmp_path)
    notice.took("a step", 0.9)
    assert not (tmp_path / FILE).exists()  # what takes less than a second needs no notice of its own
    for what, seconds in (("a step", 4.2), ("saving the state", 5.0), ("a step", 60.0), ("a step", 30.0)):
        notice.took(what, seconds)
    assert read_json(tmp_path / FILE) == {"operation": "a step", "seconds": 60.0, "notice_s": 70}


def test_what_an_earlier_attempt_took_counts(tmp_path: Path) -> None:
    Notice(tmp_path).took("a part of a validation", 170.0)
    Notice(tmp_path).took("a step", 8.0)
    assert read_json(tmp_path / FILE)["notice_s"] == 180


@pytest.mark.parametrize("left", ["", "[]", '{"seconds": "long"}'])
def test_a_file_that_says_nothing_is_written_anew(tmp_path: Path, left: str) -> None:
    (tmp_path / FILE).write_text(left)
    Notice(tmp_path).took("a step", 2.0)
    assert read_json(tmp_path / FILE)["notice_s"] == 12


def test_laps_take_what_lies_between_them(tmp_path: Path) -> None:
    notice = Notice(tmp_path)
    lap = notice.laps("a part of a validation")
    time.sleep(1.1)
    lap()
    first = read_json(tmp_path / FILE)["seconds"]
    lap()
    assert first >= 1.1 and read_json(tmp_path / FILE)["seconds"] == first


def test_nothing_is_written_by_other_ranks_and_by_one_that_was_superseded(tmp_path: Path) -> None:
    Notice(None).took("a step", 100.0)

    def check() -> None:
        raise Superseded

    with pytest.raises(Superseded):
        Notice(tmp_path, check).took("a step", 100.0)
    assert list(tmp_path.iterdir()) == []
