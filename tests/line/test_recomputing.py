"""A run decides by itself how much to recompute."""

import logging
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.model import Model
from pipeline.planning.cost import Cost, Trial
from pipeline.stages import recomputing, train
from pipeline.training.distributed import Ranks

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


def test_memory_is_shared_by_those_that_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ranks: two on a machine with 1000 bytes left, one on a machine of its own with 450."""
    ranks = Ranks()
    monkeypatch.setattr(ranks, "gather", lambda told: [["a", 1000], ["b", 450], ["a", 1010]])
    assert recomputing.fair_share_bytes(ranks) == 450
    monkeypatch.setattr(ranks, "gather", lambda told: [["a", 1000], ["b", 900], ["a", 1010]])
    assert recomputing.fair_share_bytes(ranks) == 500


def test_what_a_process_runs_at_once_is_measured(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Trial] = []
    monkeypatch.setattr(recomputing, "measured_step", lambda trial, **_: measured.append(trial) or Cost(1, 1, 1.0))
    config = configure("net.checkpoint=auto", "sample.batch=8", "train.accumulate=2")
    head = Head("softmax", Labels({"liver": (1,)}))
    assert recomputing.decide(config, head, tmp_path, processes=2, free_bytes=2**30) == "none"
    assert [trial.batch for trial in measured] == [2]


def test_the_mode_may_change_between_two_parts_of_a_run(configure: Configure) -> None:
    train.run(configure("net.checkpoint=none", *TINY))
    assert train.run(configure("net.checkpoint=deep", *TINY)).skipped == ("fold0",)
