import pytest

from pipeline.errors import ExitCode, Interrupted, Superseded
from pipeline.training.owner import Owner


def test_the_process_that_came_last_has_the_run(tmp_path):
    first = Owner(tmp_path)
    first.check()
    second = Owner(tmp_path)
    second.check()
    with pytest.raises(Superseded, match=rf"{tmp_path.name} is taken over by process \d+ on .* since 20"):
        first.check()


def test_a_run_whose_folder_was_moved_aside_has_no_owner(tmp_path):
    owner = Owner(tmp_path / "fold0")
    (tmp_path / "fold0").rename(tmp_path / "aside")
    with pytest.raises(Superseded, match="by nobody"):
        owner.check()


def test_being_superseded_is_being_interrupted():
    assert issubclass(Superseded, Interrupted)
    assert ExitCode.INTERRUPTED == 75
