import os
import subprocess
import sys

import pytest

from pipeline.errors import ExitCode, Interrupted, Superseded
from pipeline.files import read_json, write_json
from pipeline.training.owner import Owner, is_alive


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


def test_a_run_is_alive_as_long_as_the_process_that_has_it_and_not_another_of_its_number(tmp_path):
    Owner(tmp_path)
    assert is_alive(tmp_path) is True
    owner = read_json(tmp_path / "owner.json")
    write_json(tmp_path / "owner.json", owner | {"started": "1"})
    assert is_alive(tmp_path) is False
    write_json(tmp_path / "owner.json", owner | {"processes": "another machine"})
    assert is_alive(tmp_path) is None


def test_a_process_that_nobody_has_waited_for_has_ended(tmp_path):
    code = "import sys; from pathlib import Path; from pipeline.training.owner import Owner; Owner(Path(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(tmp_path) is False
    process.wait()


def test_being_superseded_is_being_interrupted():
    assert issubclass(Superseded, Interrupted)
    assert ExitCode.INTERRUPTED == 75
