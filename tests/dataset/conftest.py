"""Data sets of empty files: what layouts are about are names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MakeSource = Callable[..., Path]


@pytest.fixture
def make_source(tmp_path: Path) -> MakeSource:
    """Return a function that makes images/, labels/ and dataset.json; None leaves out a folder or the file."""

    def make(
        images: list[str] | None = None, labels: list[str] | None = None, description: dict[str, Any] | None = None
    ) -> Path:
        for folder, names in (("images", images), ("labels", labels)):
            if names is not None:
                (tmp_path / folder).mkdir()
            for name in names or ():
                (tmp_path / folder / name).touch()
        if description is not None:
            (tmp_path / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
        return tmp_path

    return make
