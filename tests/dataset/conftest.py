"""Data sets of empty files: what layouts are about are names."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset.description import Description
from pipeline.dataset.layouts import find_cases
from pipeline.labels import Labels

Plant = Callable[..., Path]
LABELS = Labels({"liver": (1,)})


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Return a function that makes empty files, folders where a path ends in a slash, and a dataset.json if given."""

    def make(paths: Iterable[str], description: dict[str, Any] | None = None) -> Path:
        for path in paths:
            made = tmp_path / path
            made.parent.mkdir(parents=True, exist_ok=True)
            made.mkdir(exist_ok=True) if path.endswith("/") else made.touch()
        if description is not None:
            (tmp_path / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
        return tmp_path

    return make


@pytest.fixture
def make_source(plant: Plant) -> Plant:
    """Return a function that makes images/, labels/ and dataset.json; None leaves out a folder or the file."""

    def make(
        images: list[str] | None = None, labels: list[str] | None = None, description: dict[str, Any] | None = None
    ) -> Path:
        folders = {"images": images, "labels": labels}
        given = {folder: names for folder, names in folders.items() if names is not None}
        return plant([f"{folder}/{name}" for folder, names in given.items() for name in ("", *names)], description)

    return make


@pytest.fixture
def describe(tmp_path: Path) -> Callable[..., Description]:
    """Return a function that makes the description of a dataset.json with the keys that it is given."""
    return lambda **keys: Description(tmp_path / "dataset.json", keys)


@pytest.fixture
def splits_of() -> Callable[[Path], dict[str, str]]:
    """Return a function that gives the split of every case of a source."""
    return lambda source: {case.name: case.split for case in find_cases(source, LABELS)}
