"""A run decides by itself how much to recompute."""

import logging

import pytest

from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.model import Model
from pipeline.stages import recomputing, train

from .conftest import Configure

TINY = ("train.steps=2", "train.warmup_steps=1", "train.validate_every_steps=2")


def test_auto_measures_takes_what_fits_and_a_run_that_goes_on_keeps_it(
    configure: Configure, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("net.checkpoint=auto", *TINY)
    folder = config.work / "train" / "fold0"
    with caplog.at_level(logging.INFO):
        train.run(config)
    record = read_json(folder / recomputing.RECORD)
    assert record["mode"] == "none"
    assert f"net.checkpoint: none, as {record['reason']}" in caplog.text
    Model.load(folder / "model")
    (folder / "done.json").unlink()
    monkeypatch.setattr(recomputing, "free_memory_bytes", lambda device: 2**20)
    with caplog.at_level(logging.INFO):
        train.run(config)
    assert "net.checkpoint: none, as this run began" in caplog.text


def test_auto_is_refused_with_figures_where_no_mode_fits(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recomputing, "free_memory_bytes", lambda device: 2**20)
    with pytest.raises(UserError, match=r"none takes .* GiB; blocks takes .* GiB; deep takes .* GiB"):
        train.run(configure("net.checkpoint=auto", *TINY))


def test_the_mode_may_change_between_two_parts_of_a_run(configure: Configure) -> None:
    train.run(configure("net.checkpoint=none", *TINY))
    assert train.run(configure("net.checkpoint=deep", *TINY)).skipped == ("fold0",)
