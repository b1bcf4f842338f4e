"""Training and prediction on a GPU: what the CPU's tests cannot show. Skipped where torch sees none."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from pipeline.errors import Interrupted, UserError
from pipeline.files import read_json
from pipeline.stages import infer, train
from pipeline.training.recorder import Recorder

from .conftest import TEST, Configure

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ON_GPU = ("train.device=cuda", "infer.device=cuda", "train.threads=1")


def losses(work: Path) -> list[float]:
    """Return the losses that were recorded."""
    with (work / "train" / "fold0" / "train.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16", "auto"])
def test_a_gpu_learns_what_a_cpu_learns(configure: Configure, trained: Path, amp: str) -> None:
    config = configure(*ON_GPU, f"train.amp={amp}")
    assert train.run(config).done == ("fold0",)
    on_cpu, on_gpu = np.array(losses(trained)), np.array(losses(config.work))
    assert on_gpu[:3] == pytest.approx(on_cpu[:3], rel=2e-3 if amp == "off" else 3e-2)


@pytest.mark.parametrize("mode", ["blocks", "deep", "auto"])
@pytest.mark.parametrize("compile", ["false", "true"])
def test_recomputing_and_compiling(configure: Configure, trained: Path, mode: str, compile: str) -> None:
    config = configure(*ON_GPU, f"net.checkpoint={mode}", f"train.compile={compile}")
    train.run(config)
    assert losses(config.work)[:3] == pytest.approx(losses(trained)[:3], rel=2e-3)


def test_workers_hand_over_page_locked_batches(configure: Configure, trained: Path) -> None:
    config = configure(*ON_GPU, "sample.workers=2")
    train.run(config)
    assert losses(config.work)[:3] == pytest.approx(losses(trained)[:3], rel=2e-3)


def test_a_run_that_repeats_goes_on_with_the_same_bits(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*ON_GPU, "train.deterministic=true", "train.amp=off")
    alone = configure(*settings, work=tmp_path / "alone")
    train.run(alone)
    stopped = configure(*settings, work=tmp_path / "stopped")
    record = Recorder.step

    def interrupted(self: Recorder, step: int, *arguments: object, **named: object) -> None:
        record(self, step, *arguments, **named)  # type: ignore[arg-type]
        if step == 7:
            raise Interrupted("stopped by the test")

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Recorder, "step", interrupted)
        train.run(stopped)
    train.run(stopped)
    final = "train/fold0/state/step-000000012/tensors.safetensors"
    assert (stopped.work / final).read_bytes() == (alone.work / final).read_bytes()


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_gpu_decides_as_a_cpu_does(configure: Configure, trained: Path, tmp_path: Path, amp: str) -> None:
    decisions = {}
    for device in ("cpu", "cuda"):
        work = tmp_path / device
        model = trained / "train" / "fold0" / "model"
        settings = (f"infer.model={model}", f"infer.device={device}", f"infer.amp={amp if device == 'cuda' else 'off'}")
        infer.run(configure(*settings, work=work))
        decisions[device] = nib.load(work / "predict" / f"{TEST[0]}.nii.gz").get_fdata()
    assert np.mean(decisions["cpu"] == decisions["cuda"]) > (0.9999 if amp == "off" else 0.99)


def test_too_large_a_patch_ends_with_a_sentence(configure: Configure) -> None:
    free = torch.cuda.mem_get_info()[0]
    hog = torch.empty(int(free * 0.98), dtype=torch.uint8, device="cuda")
    config = configure(*ON_GPU, "sample.patch_vox=[64,64,64]", "sample.batch=16")
    with pytest.raises(UserError, match="not enough memory"):
        train.run(config)
    del hog
    torch.cuda.empty_cache()


def test_peak_memory_falls_with_recomputing(configure: Configure) -> None:
    peaks = {}
    for mode in ("none", "deep"):
        config = configure(
            *ON_GPU, f"net.checkpoint={mode}", "sample.patch_vox=[64,64,64]", "train.steps=2", "train.warmup_steps=0",
            "net.options={channels: [16, 32, 64], decoder_convolutions: 2}", "train.fold=all",
        )  # fmt: skip
        torch.cuda.reset_peak_memory_stats()
        train.run(config.model_copy(update={"work": config.work.with_name(mode)}))
        peaks[mode] = torch.cuda.max_memory_allocated()
    assert peaks["deep"] < 0.75 * peaks["none"]
    assert read_json(config.work.with_name("deep") / "train" / "all" / "done.json")["step"] == 2
