"""Real CT prepared and trained on in seconds: six cases at 8 mm, patches of 16 voxels, a network of two stages."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.errors import Interrupted
from pipeline.stages import prepare, train
from pipeline.training.recorder import Recorder

EXAMPLES = Path(__file__).parents[2] / "examples" / "head_neck"
TRAINING = ("hn_001", "hn_016", "hn_021", "hn_022")
TEST = ("hn_077", "hn_084")
SETTINGS = (
    "prepare.spacing_mm=[8, 8, 8]", "prepare.workers=0", "sample.patch_vox=[16, 16, 16]", "sample.workers=0",
    "data.folds=4", "net.options={channels: [4, 8], decoder_convolutions: 1}", "augment.preset=light",
    "augment.mirror=[x]", "train.steps=12", "train.warmup_steps=2", "train.validate_every_steps=5",
    "train.log_every_steps=2", "train.amp=off", "train.threads=1", "infer.overlap=0.25",
)  # fmt: skip

Configure = Callable[..., Config]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of four training and two test cases."""
    folder = tmp_path_factory.mktemp("source")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        for name in (*TRAINING, *TEST):
            shutil.copy(EXAMPLES / kind / f"{name}.nii.gz", folder / kind)
    description = json.loads((EXAMPLES / "dataset.json").read_text())
    kept = {key: description[key] for key in ("labels", "swap")} | {"test": TEST}
    (folder / "dataset.json").write_text(json.dumps(kept))
    return folder


@pytest.fixture(scope="session")
def store(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the prepared cases of `source`."""
    work = tmp_path_factory.mktemp("store")
    outcome = prepare.run(load([f"data.source={source}", f"work={work}", *SETTINGS]))
    assert not outcome.failed
    return work / "store"


@pytest.fixture
def configure(source: Path, store: Path, tmp_path: Path) -> Configure:
    """Return a function that makes the config of a work folder of the test's own, on the store all tests share."""

    def make(*overrides: str, work: Path = tmp_path / "work") -> Config:
        return load([f"data.source={source}", f"data.store={store}", f"work={work}", *SETTINGS, *overrides])

    return make


@pytest.fixture(scope="session")
def trained(source: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the work folder of a finished training."""
    work = tmp_path_factory.mktemp("trained")
    outcome = train.run(load([f"data.source={source}", f"data.store={store}", f"work={work}", *SETTINGS]))
    assert outcome.done == ("fold0",)
    return work


def rows_of(work: Path) -> list[dict[str, str]]:
    """Return the rows of a run's table."""
    with (work / "train" / "fold0" / "train.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def stopped_after(step: int) -> Iterator[None]:
    """Ask the run that is started within to stop after a step, and expect that it does."""
    real = Recorder.step

    def interrupting(self: Recorder, number: int, *args: object, **options: object) -> None:
        real(self, number, *args, **options)  # type: ignore[arg-type]
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Recorder, "step", interrupting)
        yield
