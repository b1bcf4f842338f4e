"""Validation of a run on real CT: interrupted, killed, and done again as the run began."""

import os
import signal
from pathlib import Path

import pytest

from pipeline.config.config import Config
from pipeline.errors import Interrupted
from pipeline.inference import segment
from pipeline.stages import train
from pipeline.training import validate
from pipeline.training.start import weights_hash
from pipeline.training.volume_scores import VolumeScores

from .conftest import Configure, rows_of, stopped_after


def scores_of(work: Path) -> list[tuple[str, str]]:
    """Return step and Dice of each validation of a run."""
    return [(row["step"], row["dice"]) for row in rows_of(work) if row["dice"]]


def check_same(first: Path, second: Path) -> None:
    """Check that two runs have the same scores of two validations, and the same model."""
    assert scores_of(first) == scores_of(second) and len(scores_of(first)) == 2
    assert weights_hash(first / "train/fold0/model") == weights_hash(second / "train/fold0/model")


@pytest.fixture
def two_held_out(configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Config, Config]:
    """Return the config of a run that was left alone, with two validations of two cases, and one of the same run.

    The other, in a folder of its own, is to keep the scores of each case.
    """
    keys = ("data.folds=2", "train.steps=6")
    alone = configure(*keys, work=tmp_path / "alone")
    train.run(alone)
    monkeypatch.setattr("pipeline.training.scored_cases.EVERY_S", 0.0)
    return alone, configure(*keys)


def test_a_stop_within_validation_is_followed_by_that_validation(
    configure: Configure, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure()
    real = segment.Blend.add
    sent: list[int] = []

    def interrupting(self: segment.Blend, *args: object) -> None:
        real(self, *args)  # type: ignore[arg-type]
        if not sent:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(segment.Blend, "add", interrupting)
    with pytest.raises(Interrupted):
        train.run(config)
    assert not scores_of(config.work)
    assert train.run(config).done == ("fold0",)
    assert scores_of(config.work) == scores_of(trained)


def test_a_validation_that_lasts_longer_than_an_attempt_goes_on_with_its_next_case(
    two_held_out: tuple[Config, Config], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alone, config = two_held_out
    real = validate.score_volume
    scored: list[int] = []

    def interrupting(*args: object) -> VolumeScores:
        scored.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(validate, "score_volume", interrupting)
    with caplog.at_level("INFO", logger="hounsfield"):
        for _ in range(3):  # stopped after each of two cases of two validations; the last one ends the run
            with pytest.raises(Interrupted):
                train.run(config)
        assert train.run(config).done == ("fold0",)
    assert len(scored) == 4
    assert caplog.text.count("the validation goes on; scored before: hn_") == 2
    check_same(alone.work, config.work)
    assert not list((config.work / "train/fold0").rglob("validation.json"))


def test_a_validation_that_is_killed_goes_on_from_its_own_state(
    two_held_out: tuple[Config, Config], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alone, config = two_held_out
    real = validate.score_volume
    scored: list[int] = []

    def dying(*args: object) -> VolumeScores:
        scored.append(1)
        if len(scored) == 2:
            raise SystemExit(1)  # no state is saved on it
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(validate, "score_volume", dying)
    with pytest.raises(SystemExit):
        train.run(config)
    with caplog.at_level("INFO", logger="hounsfield"):
        assert train.run(config).done == ("fold0",)
    assert "continuing after step 5" in caplog.text
    assert caplog.text.count("the validation goes on; scored before: hn_") == 1
    assert len(scored) == 5  # two cases twice, and the one that was under way again
    check_same(alone.work, config.work)


def test_validations_go_on_as_the_run_began(
    configure: Configure, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stopped_after(6):
        train.run(configure())
    config = configure("infer.mirror=[x]", "infer.keep_largest=all", "infer.windows=3")
    with caplog.at_level("WARNING", logger="hounsfield"):
        assert train.run(config).done == ("fold0",)
    assert "validations go on with infer.mirror=[], infer.keep_largest=[], as the run began" in caplog.text
    scores = [[row["dice"] for row in rows_of(work)] for work in (config.work, trained)]
    assert scores[0] == scores[1]


def test_a_validation_may_go_on_in_float32_where_another_type_has_failed(configure: Configure) -> None:
    begun = {"overlap": 0.25, "mirror": [], "keep_largest": [], "amp": "fp16"}  # as an earlier version wrote it
    infer = train.as_validated(configure("infer.amp=off", "infer.overlap=0.5"), begun).infer
    assert (infer.amp, infer.overlap) == ("off", 0.25)
