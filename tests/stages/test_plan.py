"""The plan of small data sets and of the real example: it reads back, can be prepared from, and replaces nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.dataset.folds import fold_of
from pipeline.errors import ExitCode, UserError
from pipeline.labels import Labels, Region
from pipeline.nets.registry import build, check_patch
from pipeline.planning.cost import GIB
from pipeline.planning.memory import free_memory_bytes
from pipeline.stages import plan, prepare
from pipeline.stages.data import cases_of, labels_of
from pipeline.stages.plan import labels_section, target_of
from pipeline.store.reader import open_store

EXAMPLE = Path(__file__).parents[2] / "examples" / "head_neck"
CPU = torch.device("cpu")
Planned = tuple[Config, str]
Plan = Callable[..., Planned]


@pytest.fixture
def given(tmp_path: Path, data_set: Any) -> list[str]:
    """The overrides that name the data set and the work folder, and keep cases in this process."""
    return [f"work={tmp_path / 'work'}", f"data.source={data_set.folder}", "prepare.workers=0", "train.device=cpu"]


@pytest.fixture
def planned(given: list[str]) -> Plan:
    """Return a function that plans, and returns the config that was written, and its text."""

    def run(*overrides: str) -> Planned:
        config = load([*given, *overrides])
        assert plan.run(config).exit_code == ExitCode.DONE
        file = config.plan.output or config.work / "plan.yaml"
        return load([str(file)]), file.read_text()

    return run


def test_a_plan_reads_back_and_can_be_prepared_and_made_again(planned: Plan, tmp_path: Path, given: list[str]) -> None:
    config, written = planned()
    labels = labels_of(config)
    assert dict(labels.values) == {"liver": (1,), "lung": (2, 3)}
    assert config.prepare.spacing_mm == (2.0, 2.0, 2.0)
    assert config.data.folds == 2  # patients
    assert config.intensity.window_hu == (-160, 240)
    assert config.intensity.mean is None
    net = build(config.net, 1, 3)
    check_patch(net, config.sample.patch_vox, config.net.name)
    assert all(patch <= -(-size // 2) * 2 for patch, size in zip(config.sample.patch_vox, (14, 12, 10), strict=True))
    assert config.sample.batch >= 2
    assert config.prepare.workers == 0  # what was given is in it
    for reason in ("# the median of 2 cases", "measured on", "train.fold=0 holds out", "liver  "):
        assert reason in written
    prepared = prepare.run(config)
    assert prepared.exit_code == ExitCode.DONE
    case = open_store(config.work / "store", ())[0]
    assert case.grid.spacing_mm == pytest.approx((2, 2, 2))

    again = plan.run(load([*given, "plan.step_seconds=0.5"]))  # the file is as plan wrote it: it may be replaced
    assert (again.done, again.skipped) == ((), ("a", "b"))
    file = tmp_path / "work" / "plan.yaml"
    before = file.read_text()
    assert plan.run(load([str(file)])).skipped == (
        "a",
        "b",
    )  # from the plan itself, which says all that there is to say
    assert file.read_text() == before
    file.write_text(file.read_text().replace("batch: ", "batch: 1"))
    with pytest.raises(UserError, match=r"plan\.output: .*plan\.yaml is there and was edited.*plan2\.yaml"):
        plan.run(load(given))


def test_what_is_given_stays_and_the_rest_follows_it(planned: Plan, tmp_path: Path) -> None:
    config, written = planned(
        *("prepare.spacing_mm=[2,2,4]", "intensity.window_hu=[-100,300]", "sample.patch_vox=[8,8,4]"),
        *("sample.batch=3", "net.options.channels=[4,8]", "data.folds=2", "train.lr=1e-3", "seed=5"),
        f"plan.output={tmp_path / 'mine.yaml'}",
    )
    assert config.prepare.spacing_mm == (2, 2, 4)
    assert config.intensity.window_hu == (-100, 300)
    assert (config.sample.patch_vox, config.sample.batch) == ((8, 8, 4), 3)
    assert config.net.options == {"channels": [4, 8], "strides": [1, [2, 2, 1]]}
    assert (config.train.lr, config.seed) == (1e-3, 5)
    assert written.count("# as given") >= 6
    assert config.plan.output is None  # what was planned with is no part of the plan


@pytest.mark.slow
def test_a_stack_of_one_slice_in_a_single_case_is_planned_for(data_set: Any, planned: Plan) -> None:
    for name in "abt":
        data_set.add(name, image=data_set.image[:, :, :1], label=data_set.label[:, :, 2:3])
    config, written = planned("data.exclude=[b]", "net.options={channels: [4, 8]}")
    assert config.train.fold == "all"
    assert "of one patient" in written
    check_patch(build(config.net, 1, 3), config.sample.patch_vox, config.net.name)


def test_a_case_that_cannot_be_read_fails_and_test_cases_are_not_read(data_set: Any, given: list[str]) -> None:
    data_set.add("c")
    (data_set.folder / "images" / "t.nii.gz").write_bytes(b"not even a CT")
    (data_set.folder / "labels" / "b.nii.gz").write_bytes(b"no gzip")
    outcome = plan.run(load([*given, "net.options={channels: [4, 8]}"]))
    assert (outcome.exit_code, outcome.done, list(outcome.failed)) == (ExitCode.SOME_FAILED, ("a", "c"), ["b"])
    assert load([str(load(given).work / "plan.yaml")]).data.folds == 2


def test_data_without_any_labelled_voxel_get_a_sentence(data_set: Any, given: list[str]) -> None:
    for name in "ab":
        data_set.add(name, label=np.zeros_like(data_set.label))
    with pytest.raises(UserError, match="none of 2 cases has a voxel of any class"):
        plan.run(load(given))


def test_only_test_cases_get_a_sentence(data_set: Any, given: list[str]) -> None:
    data_set.describe(test=["a", "b", "t"])
    with pytest.raises(UserError, match="no training case"):
        plan.run(load(given))


def test_no_data_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.source: not set"):
        plan.run(load([f"work={tmp_path}"]))


def test_a_file_of_the_users_is_refused_before_anything_is_read(given: list[str], tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("work: runs/mine\n")
    with pytest.raises(UserError, match=r"plan\.output: .*not written by plan"):
        plan.run(load([*given, f"plan.output={mine}"]))
    assert mine.read_text() == "work: runs/mine\n"
    assert not (tmp_path / "work").exists()


def test_the_default_limit_is_most_of_what_is_free() -> None:
    target = target_of(load(["train.device=cpu"]), CPU)
    assert 0.5 * free_memory_bytes(CPU) < target.memory_bytes < 0.95 * free_memory_bytes(CPU)
    assert target.seconds == 1.5
    assert not target.elsewhere


def test_a_memory_limit_stands_for_another_device_unless_this_one_is_asked_for() -> None:
    other, this = (target_of(load(["plan.memory_gb=4", *words]), CPU) for words in ([], ["train.device=cpu"]))
    assert other.memory_bytes == this.memory_bytes == 4 * GIB
    assert (other.elsewhere, other.seconds, other.family.first) == (True, None, 32)
    assert (this.elsewhere, this.seconds, this.family.first) == (False, 1.5, 16)


def test_labels_are_written_as_a_config_says_them() -> None:
    values = {"liver": (1,), "tumour": (2, 5)}
    regions = (Region("organ", ("liver", "tumour"), "liver"),)
    labels = Labels(values, regions, ignore=255, swap=(("liver", "tumour"),), background=(0, 7))
    section = json.loads(json.dumps(labels_section(labels)))
    assert load([f"labels={json.dumps(section)}"]).labels.build() == labels
    assert labels_section(Labels({"liver": (1,)})) == {"liver": 1}


@pytest.mark.slow
def test_the_example_is_planned_and_two_of_its_cases_are_prepared(tmp_path: Path) -> None:
    config = load([f"work={tmp_path}", f"data.source={EXAMPLE}", "train.device=cpu", "train.threads=1"])
    assert plan.run(config).exit_code == ExitCode.DONE
    chosen = load([str(tmp_path / "plan.yaml")])
    text = (tmp_path / "plan.yaml").read_text()
    cases = [case for case in cases_of(chosen) if case.split == "train"]
    assert all(2.0 < mm < 6.0 for mm in chosen.prepare.spacing_mm)
    low, high = chosen.intensity.window_hu
    assert low == -160 and 800 < high < 2500  # the mandible is among the classes
    net = build(chosen.net, 1, 6)
    check_patch(net, chosen.sample.patch_vox, "UNet3d")
    assert chosen.data.folds == 5
    for name, fold in fold_of(cases, 5, 0, {case.name: range(1, 6) for case in cases}).items():
        assert name in next(line for line in text.splitlines() if line.strip().startswith(f"#   {fold}:"))
    kept = [case.name for case in cases_of(chosen)][2:]
    outcome = prepare.run(load([str(tmp_path / "plan.yaml"), f"data.exclude=[{', '.join(kept)}]"]))
    assert len(outcome.done) == 2
