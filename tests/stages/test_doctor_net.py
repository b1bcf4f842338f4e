"""The doctor on networks: what is told of each, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.errors import ExitCode, UserError
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.nets.registry import build
from pipeline.planning.cost import Trial
from pipeline.stages import doctor_net, prepare

SMALL = ("net.options={channels: [4, 8]}", "sample.patch_vox=[12,12,10]", "sample.batch=2")
CODE = """
from torch import nn
from torch.nn import functional

class Published(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.layer = nn.Conv3d(in_channels, num_classes, 3, padding=1)
        self.act = nn.Sigmoid()
    def forward(self, image):
        return self.act(self.layer(image))

class Centred(Published):
    def forward(self, image):
        logits = self.layer(image)
        return logits - logits.mean(0, keepdim=True)

class Rootless(Published):
    def forward(self, image):
        return self.layer(image) + (image.abs().sum() * -1).sqrt()

class OneSize(nn.Module):
    smallest_vox = multiple_vox = largest_vox = 8
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.layer = nn.Conv3d(in_channels, num_classes, 1)
    def forward(self, image):
        return self.layer(image)

class Promises(nn.Module):
    smallest_vox = multiple_vox = 3
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.layer = nn.Conv3d(in_channels, num_classes, 1)
    def forward(self, image):
        return functional.max_pool3d(self.layer(image), 4).repeat_interleave(4, 2) if image.shape[2] < 5 else \\
            self.layer(image)
"""


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "doctored_nets.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "doctored_nets"


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    standard = [f"work={tmp_path / 'work'}", "labels={liver: 1}", "train.device=cpu", *SMALL]
    return lambda *overrides: load([*standard, *overrides])


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[ExitCode, str]]:
    """Return a function that runs the doctor, and gives the exit code and the tables with spaces made one."""

    def tell(config: Config) -> tuple[ExitCode, str]:
        code = doctor_net.run(config)
        return code, re.sub(r"\s+", " ", capsys.readouterr().out)

    return tell


@pytest.mark.slow
def test_everything_is_told_and_nothing_written(config: Any, told: Any, tmp_path: Path) -> None:
    code, shown = told(config("prepare.spacing_mm=[2,2,4]"))
    assert code == ExitCode.DONE
    for part in (
        "verdict passes the door: UNet3d ends in a linear layer channels 1 in, 2 out parameters",
        "billion for one patch of 12 x 12 x 10 voxels",
        # voxel 128, 126..130 by the last stage, at the half 63..65 and 62..66, 123..133 by the stride, 121..135
        "receptive field 15 x 15 x 15 voxels, 30 x 30 x 60 mm, norms left out",
        "patch sizes multiples of 1 x 1 x 1 from 3 x 3 x 3 voxels up",
        "smallest: 3 x 3 x 3 runs next: 4 x 4 x 4 runs too small: 2 x 2 x 2 refused, as it should be",
    ):
        assert part in shown, shown
    for mode in ("none", "blocks"):
        assert re.search(rf"step, checkpoint {mode} \d\.\d\d GiB, [\d.e-]+ s", shown)
    assert "auto" not in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_patch_that_no_memory_suffices_for_is_told_in_its_rows(config: Any, told: Any) -> None:
    code, shown = told(config("sample.patch_vox=[40000,40000,40000]"))
    assert code == ExitCode.DONE
    assert "multiply-adds unknown, as memory does not suffice for one patch" in shown
    assert "step, checkpoint none memory does not suffice, for a batch of 2" in shown
    assert "step, checkpoint blocks memory does not suffice" in shown


def test_a_refused_ending_is_told_with_what_it_does_and_the_key_that_cures_it(
    config: Any, told: Any, published: str
) -> None:
    code, shown = told(config(f"net.name={published}:Published", "net.options={}"))
    assert code == ExitCode.SOME_FAILED
    assert "REFUSED. net.name: Published ends in Sigmoid in module act (Sigmoid), not in a linear layer." in shown
    assert "twice, it cannot come near 0" in shown
    assert "Set net.strip_final_activation=true, which takes it off" in shown


def test_logits_that_are_no_numbers_are_refused_as_an_ending_is(config: Any, told: Any, published: str) -> None:
    code, shown = told(config(f"net.name={published}:Rootless", "net.options={}"))
    assert code == ExitCode.SOME_FAILED
    assert "REFUSED. net.name: Rootless returns NaN or infinite logits" in shown


def test_head_weights_for_outputs_that_are_not_there_are_refused(config: Any) -> None:
    with pytest.raises(UserError, match=r"net\.head_weights: found 3, but the network has 1 outputs in training"):
        doctor_net.run(config("net.head_weights=[1, 2, 3]"))


def test_a_network_that_mixes_samples_is_remarked_on(config: Any, published: str) -> None:
    given = config(f"net.name={published}:Centred", "net.options={}")
    net = build(given.net, 1, 2)
    rows = dict(doctor_net.facts(net, doctor_net.probe(net, (12, 12, 10)), given, doctor_net.choose("cpu")))
    assert rows["samples of a batch"].startswith("are MIXED: a window's prediction depends on those")
    assert rows["receptive field"].startswith("unknown: the gradient of the logits is 0 in every voxel")


def test_facts_of_a_stripped_network(config: Any, published: str) -> None:
    given = config(f"net.name={published}:Published", "net.options={}", "net.strip_final_activation=true")
    net = build(given.net, 1, 2)
    verdict = doctor_net.probe(net, (12, 12, 10), channels_out=2)
    rows = dict(doctor_net.facts(net, verdict, given, doctor_net.choose("cpu")))
    assert rows["parameters"] == "56"  # two kernels of 27 with a bias
    assert rows["multiply-adds"] == "7.78e-05 billion for one patch of 12 x 12 x 10 voxels"  # 2 x 27 x 1440
    assert rows["receptive field"].startswith("3 x 3 x 3 voxels, 4.5 x 4.5 x 4.5 mm")


def test_a_size_that_the_rule_allows_and_that_does_not_run_is_told(config: Any, published: str) -> None:
    net = build(config(f"net.name={published}:Promises", "net.options={}").net, 1, 2)
    rows = list(doctor_net.trials(net, "Promises"))
    assert [(what, right) for what, _, right in rows] == [
        ("smallest: 3 x 3 x 3", False), ("next: 6 x 6 x 6", True), ("no multiple: 4 x 4 x 4", True),
    ]  # fmt: skip
    assert rows[0][1].startswith("DOES NOT RUN. net.name: Promises cannot be run on a patch of [3, 3, 3] voxels in tra")


def test_a_multiple_is_kept_and_its_neighbours_are_refused(config: Any) -> None:
    net = build(config("net={name: monai.UNet, options: {channels: [4, 8], strides: [2]}}").net, 1, 2)
    assert list(doctor_net.trials(net, "monai.UNet")) == [
        ("smallest: 4 x 4 x 4", "runs", True),
        ("next: 6 x 6 x 6", "runs", True),
        ("too small: 2 x 2 x 2", "refused, as it should be", True),
        ("no multiple: 5 x 5 x 5", "refused, as it should be", True),
    ]


def test_a_patch_that_the_network_does_not_take_gets_the_registrys_sentence(config: Any) -> None:
    with pytest.raises(UserError, match=r"sample\.patch_vox: \[12, 12, 2\] does not suit UNet3d.*the nearest is"):
        doctor_net.run(config("sample.patch_vox=[12,12,2]"))


def test_without_classes_there_is_nothing_to_have_outputs_for(config: Any) -> None:
    with pytest.raises(UserError, match=r"labels: not set, and .* add for example labels=\{liver: 1\}"):
        doctor_net.known_labels(config("labels=null"))


def test_classes_come_from_the_store_and_before_there_is_one_from_the_data_set(configure: Any, data_set: Any) -> None:
    assert doctor_net.known_labels(configure()).names == ("liver", "lung")
    assert prepare.run(configure()).exit_code == ExitCode.DONE
    (data_set.folder / "dataset.json").unlink()
    assert doctor_net.known_labels(configure("data.source=/not/there")).names == ("liver", "lung")
    assert doctor_net.known_labels(configure("labels={tumour: 1}")).names == ("tumour",)


@pytest.mark.slow
def test_a_mode_that_cannot_be_had_says_why(config: Any) -> None:
    given = config("net={name: no.Network}")
    rows = doctor_net.costs(given, Head("softmax", Labels({"liver": (1,)})))
    what, found = next(rows)
    assert what == "step, checkpoint none"
    assert found.startswith("cannot be had: net.name: there is no network no.Network")


def test_a_network_made_for_one_size_is_not_blamed_for_others(config: Any, published: str) -> None:
    net: Any = build(config(f"net.name={published}:OneSize", "net.options={}").net, 1, 2)
    assert [(what, as_it_should) for what, _, as_it_should in doctor_net.trials(net, "OneSize")] == [
        ("smallest: 8 x 8 x 8", True), ("no multiple: 9 x 9 x 9", True), ("too large: 16 x 16 x 16", True),
    ]  # fmt: skip


def test_a_step_is_measured_on_what_is_run_at_once(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Trial] = []
    monkeypatch.setattr(doctor_net, "measured_step", lambda trial, **_: tried.append(trial))
    head = Head("softmax", Labels({"liver": (1,)}))
    _, whole = next(doctor_net.costs(config("sample.batch=4"), head))
    _, parts = next(doctor_net.costs(config("sample.batch=4", "train.accumulate=2"), head))
    assert [trial.batch for trial in tried] == [4, 2]
    assert whole.endswith("for a batch of 4") and parts.endswith("for each of 2 parts of a batch of 4")
