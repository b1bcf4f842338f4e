"""Memory that does not suffice ends a training with what to do."""

import subprocess
import sys
from pathlib import Path

from pipeline.errors import ExitCode

from .conftest import SETTINGS

ROOT = Path(__file__).parents[2]


def test_a_step_that_asks_for_too_much_memory_ends_with_the_cure(source: Path, store: Path, tmp_path: Path) -> None:
    words = [f"data.source={source}", f"data.store={store}", f"work={tmp_path}", *SETTINGS]
    words += ["net.name=tests.line.foreign:Foreign", "net.options={disaster: memory}"]
    command = [sys.executable, "scripts/train.py", *words]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == ExitCode.USER_ERROR
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: not enough memory (")
    assert all(key in last for key in ("net.checkpoint=auto", "train.accumulate=2", "sample.batch"))
