"""Averaged weights and a warm start, in a run on real CT."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import UserError
from pipeline.stages import train

from .conftest import Configure, stopped_after


def test_the_model_holds_the_averaged_weights_and_the_state_both(configure: Configure) -> None:
    config = configure("train.steps=4", "train.fold=all", "train.average=0.999")
    train.run(config)
    folder = config.work / "train" / "all"
    model = load_file(folder / "model" / "weights.safetensors")
    state = load_file(folder / "state" / "step-000000004" / "tensors.safetensors")
    assert all(torch.equal(model[name], state[f"average/{name}"]) for name in model)
    assert any(not torch.equal(model[name], state[f"net/{name}"]) for name in model)


def test_a_run_that_starts_from_a_model_goes_on_with_it_and_not_with_another(
    configure: Configure, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = trained / "train/fold0/model"
    words = ("train.steps=1", "train.warmup_steps=0", "train.lr=1e-9", "train.fold=all", f"train.start_from={model}")
    with caplog.at_level("INFO", logger="hounsfield"):
        train.run(configure(*words))
    assert "100.0 % of all numbers" in caplog.text
    theirs = load_file(model / "weights.safetensors")
    ours = load_file(tmp_path / "work/train/all/model/weights.safetensors")
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-9)
    assert train.run(configure(*words)).skipped == ("all",)
    other = tmp_path / "work/train/all/model"
    with pytest.raises(UserError, match=r"train\.start_from: \w+\.\.\. then, \w+\.\.\. now"):
        train.run(configure(*words[:-1], f"train.start_from={other}"))


def test_a_run_that_goes_on_does_not_need_the_model_that_it_started_from(
    configure: Configure, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained / "train/fold0/model", model)
    words = ("train.restart=true", f"train.start_from={model}", "train.steps=4")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with stopped_after(2):
        train.run(configure(*words))
    shutil.rmtree(model)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert train.run(configure(*words)).done == ("fold0",)


def test_a_run_cannot_start_from_what_its_restart_moves_aside(configure: Configure, trained: Path) -> None:
    config = configure("train.steps=3")
    train.run(config)
    model = config.work / "train/fold0/model"
    with pytest.raises(UserError, match=r"train\.start_from: .* lies in the folder of the run.* work="):
        train.run(configure("train.restart=true", f"train.start_from={model}"))
    assert (model / "weights.safetensors").exists()
