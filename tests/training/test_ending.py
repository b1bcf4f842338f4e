"""How a run that did not finish came to its end."""

from pathlib import Path

import pytest

from pipeline.errors import Interrupted, Superseded, UserError
from pipeline.files import read_json, write_json
from pipeline.training.ending import Ending, ending_told, read_ending
from pipeline.training.owner import Owner


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (UserError("mend it."), Ending("error", "mend it.")),
        (
            RuntimeError("[/pytorch/gloo/pair.cc:553] Connection closed by peer [127.0.0.1]:1"),
            Ending("error", "another process of this run has ended, and what it said tells why"),
        ),
        (KeyError("nothing"), Ending("error", "KeyError: 'nothing'")),
        (Interrupted("stopped by SIGTERM"), Ending("request", "stopped by SIGTERM")),
        (KeyboardInterrupt(), Ending("request", "")),
    ],
)
def test_an_error_and_a_request_to_stop_are_told_apart(tmp_path: Path, error: BaseException, ending: Ending) -> None:
    with pytest.raises(type(error)), ending_told(tmp_path):
        Owner(tmp_path)
        raise error
    assert read_ending(tmp_path) == ending


def test_what_goes_well_leaves_nothing_and_removes_what_was_before(tmp_path: Path) -> None:
    with pytest.raises(UserError), ending_told(tmp_path):
        raise UserError("mend it.")
    with ending_told(tmp_path):
        assert read_ending(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_another_process_has_taken_over_is_that_ones(tmp_path: Path) -> None:
    with pytest.raises(Superseded), ending_told(tmp_path):
        raise Superseded("taken over")
    with pytest.raises(UserError), ending_told(tmp_path):
        Owner(tmp_path)
        write_json(tmp_path / "owner.json", read_json(tmp_path / "owner.json") | {"process": 1})
        raise UserError("mend it.")
    assert read_ending(tmp_path) is None


def test_a_run_that_was_moved_aside_is_not_begun_again(tmp_path: Path) -> None:
    folder = tmp_path / "fold0"
    folder.mkdir()
    with pytest.raises(UserError), ending_told(folder):
        folder.rename(tmp_path / "aside")
        raise UserError("mend it.")
    assert not folder.exists()


def test_other_processes_of_a_run_write_nothing() -> None:
    with pytest.raises(UserError), ending_told(None):
        raise UserError("mend it.")
