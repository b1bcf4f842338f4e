"""Cross-validation on real CT: each case by the model that has not seen it, and the script that trains all folds."""

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.load import load
from pipeline.errors import ExitCode, UserError
from pipeline.files import read_json
from pipeline.formats.dispatch import read_label
from pipeline.model import read_facts
from pipeline.stages import evaluate, folds, infer, train
from pipeline.work import Outcome

from .conftest import SETTINGS, TEST, TRAINING, Configure

ROOT = Path(__file__).parents[2]
SHORT = ("data.folds=2", "train.steps=4", "train.warmup_steps=0")


@pytest.fixture(scope="module")
def crossed(source: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """Return the work folder of a finished cross-validation in two folds, and what became of its cases."""
    work = tmp_path_factory.mktemp("crossed")
    words = [f"data.source={source}", f"data.store={store}", f"work={work}", *SETTINGS, *SHORT]
    for fold in (0, 1):
        train.run(load([*words, f"train.fold={fold}"]))
    return work, folds.run(load(words))


def test_every_case_is_scored_once_by_the_model_that_has_not_seen_it(
    crossed: tuple[Path, Outcome], configure: Configure
) -> None:
    work, outcome = crossed
    assert sorted(outcome.done) == sorted([*TRAINING, *TRAINING])  # predicted, and scored
    with (work / "folds/evaluate/cases.csv").open(newline="") as file:
        fold_of = {row["case"]: row["group"] for row in csv.DictReader(file)}
    assert list(fold_of) == sorted(TRAINING) and set(fold_of.values()) == {"fold0", "fold1"}
    for name, fold in fold_of.items():
        assert name not in read_facts(work / "train" / fold / "model").provenance["training_cases"]
        assert (work / "folds" / fold / f"{name}.nii.gz").is_file()
    assert sorted(folds.run(configure(*SHORT, work=work)).skipped) == sorted([*TRAINING, *TRAINING])


def test_predictions_and_scores_are_those_of_infer_and_evaluate(
    crossed: tuple[Path, Outcome], configure: Configure, source: Path, tmp_path: Path
) -> None:
    work, _ = crossed
    ours = sorted((work / "folds/fold1").glob("*.nii.gz"))[0]
    infer.run(configure(f"infer.input={source / 'images' / ours.name}", f"infer.model={work / 'train/fold1/model'}"))
    theirs = tmp_path / "work" / "predict" / ours.name
    np.testing.assert_array_equal(read_label(ours).voxels, read_label(theirs).voxels)
    together = tmp_path / "together"
    together.mkdir()
    for path in (work / "folds").glob("fold*/*.nii.gz"):
        shutil.copy(path, together)
    excluded = f"data.exclude=[{', '.join(TEST)}]"
    evaluate.run(configure(f"evaluate.truth={source / 'labels'}", f"evaluate.prediction={together}", excluded))
    one, other = (read_json(folder / "evaluate/summary.json") for folder in (work / "folds", tmp_path / "work"))
    assert one["mean"] == other["mean"] and one["cases"] == other["cases"] == 4


def test_a_fold_that_is_not_trained_is_named(configure: Configure) -> None:
    train.run(configure(*SHORT))
    with pytest.raises(UserError, match=r"train/fold1: fold 1 is not trained to its end; run train with train\.fold=1"):
        folds.run(configure(*SHORT))


def test_models_of_other_folds_are_refused(crossed: tuple[Path, Outcome], configure: Configure) -> None:
    with pytest.raises(UserError, match=r"fold0/model has learnt from hn_\d+.*, which fold 0 holds out"):
        folds.run(configure(*SHORT, "seed=1", work=crossed[0]))


@pytest.mark.slow
def test_the_script_trains_every_fold_goes_on_after_a_stop_and_prints_scores(source: Path, tmp_path: Path) -> None:
    words = ["bash", str(ROOT / "scripts/run_folds.sh"), str(ROOT / "configs/head_neck.yaml")]
    words += [f"data.source={source}", f'work="{tmp_path / "a work"}"', *SETTINGS, "data.folds=2"]
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                               start_new_session=True)  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "step 2/12" in line:
            os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does: all of the group
            break
    rest = process.stderr.read()
    assert process.wait() != 0 and "run the same command again" in rest
    again = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "continuing after step" in again.stderr
    summary = read_json(tmp_path / "a work/folds/evaluate/summary.json")
    assert summary["cases"] == 4 and list(summary["groups"]) == ["fold0", "fold1"]
    shown = again.stdout.splitlines()
    assert [line.split()[:2] for line in shown if line.startswith("fold")] == [["fold0", "2"], ["fold1", "2"]]


@pytest.fixture
def split_source(source: Path, tmp_path: Path) -> Path:
    """Return the data set with a description that names its validation cases."""
    folder = tmp_path / "split"
    shutil.copytree(source, folder)
    description = read_json(folder / "dataset.json")
    (folder / "dataset.json").write_text(json.dumps(description | {"validation": TRAINING[:1]}))
    return folder


def test_a_data_set_with_its_own_split_has_one_fold(
    source: Path, split_source: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for data, number in ((source, 4), (split_source, 1)):
        assert folds.run(load([f"data.source={data}", *SETTINGS]), count=True) == ExitCode.DONE
        assert capsys.readouterr().out == f"{number}\n"
    assert caplog.messages == [
        "the data set names its validation cases (1) itself: that is one fixed split, and so one run (fold 0) in place "
        "of 4 folds"
    ]


@pytest.mark.slow
def test_the_script_trains_once_where_the_data_set_has_its_own_split(split_source: Path, tmp_path: Path) -> None:
    words = ["bash", str(ROOT / "scripts/run_folds.sh"), str(ROOT / "configs/head_neck.yaml")]
    words += [f"data.source={split_source}", f"work={tmp_path / 'work'}", *SETTINGS, "train.steps=4"]
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "one fixed split, and so one run" in result.stderr
    assert [path.name for path in (tmp_path / "work/train").glob("fold*")] == ["fold0"]
    summary = read_json(tmp_path / "work/folds/evaluate/summary.json")
    assert (summary["cases"], list(summary["groups"])) == (1, ["fold0"])


def test_the_script_without_a_config_says_how_it_is_called() -> None:
    result = subprocess.run(["bash", str(ROOT / "scripts/run_folds.sh")], capture_output=True, text=True)
    assert result.returncode == 2
    assert "usage: bash scripts/run_folds.sh CONFIG" in result.stderr
