"""Training on real CT: what it leaves, how it goes on after a stop, what it refuses."""

import math
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import ExitCode, Interrupted, UserError
from pipeline.files import read_json, write_json
from pipeline.model import Model, read_facts
from pipeline.monitor.journal import read_records
from pipeline.stages import doctor_run, train
from pipeline.training.recorder import Recorder

from .conftest import TEST, TRAINING, Configure, rows_of, stopped_after

FINAL = "step-000000012/tensors.safetensors"


def test_a_run_leaves_the_best_model_with_its_facts(trained: Path) -> None:
    done = read_json(trained / "train" / "fold0" / "done.json")
    model = Model.load(trained / "train" / "fold0" / "model")
    assert done["step"] == 12
    assert model.facts.provenance["step"] == done["best_step"] in (5, 10, 12)
    assert model.facts.provenance["validation_dice"] == done["dice"]
    assert model.facts.spacing_mm == pytest.approx((8, 8, 8))
    assert len(model.facts.provenance["training_cases"]) == 3
    assert model.facts.labels.names[0] == "Brainstem"


def test_the_table_has_steps_and_validations(trained: Path) -> None:
    rows = rows_of(trained)
    steps = [int(row["step"]) for row in rows if row["loss"]]
    scored = [row for row in rows if row["dice"]]
    assert steps == [1, 2, 4, 6, 8, 10, 12]
    assert [int(row["step"]) for row in scored] == [5, 10, 12]
    for row in rows:
        if row["loss"]:
            total = 0.5 * float(row["dice_part"]) + 0.5 * float(row["topk_part"])
            assert float(row["loss"]) == pytest.approx(total, rel=1e-5)


def test_a_run_leaves_a_journal_of_its_health_and_is_well(trained: Path) -> None:
    vitals, checkups = read_records(trained / "train" / "fold0")
    assert [record.step for record in vitals] == [*range(1, 13)]
    assert [record.step for record in checkups] == [5, 10, 12]
    assert sum(case.patches for case in checkups[0].training.values()) == 5 * len(vitals[0].cases)
    assert doctor_run.run([trained]) == ExitCode.DONE


def test_test_cases_and_their_files_are_never_read(
    configure: Configure, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = Path.open

    def noting(self: Path, *args: object, **options: object) -> object:
        opened.append(str(self))
        return real(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", noting)
    copy = tmp_path / "moved"
    shutil.copytree(source, copy)
    for path in copy.rglob("*.nii.gz"):
        path.unlink()  # training needs the store alone
    train.run(configure("train.steps=4", f"data.source={copy}"))
    assert not [path for path in opened if any(name in path for name in TEST)]


def test_an_interrupted_run_ends_with_the_same_bits(
    configure: Configure, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure()
    real = Recorder.step

    def interrupting(self: Recorder, step: int, *args: object, **options: object) -> None:
        real(self, step, *args, **options)  # type: ignore[arg-type]
        if step in (4, 10) and not (tmp_path / f"sent-{step}").exists():
            (tmp_path / f"sent-{step}").touch()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Recorder, "step", interrupting)
    for _ in range(2):
        with pytest.raises(Interrupted):
            train.run(config)
    assert train.run(config).done == ("fold0",)
    ours, theirs = (load_file(work / "train/fold0/state" / FINAL) for work in (config.work, trained))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    same = [[{k: row[k] for k in ("step", "loss", "dice", "lr", "grad_norm")} for row in rows_of(work)]
            for work in (config.work, trained)]  # fmt: skip
    assert same[0] == same[1]
    best = [read_facts(work / "train/fold0/model").provenance for work in (config.work, trained)]
    assert best[0] == best[1]
    health = [read_records(work / "train/fold0") for work in (config.work, trained)]
    theirs_alone = {"wait_s": 0, "step_s": 0, "memory_bytes": 0, "since_start": None}
    steps = [[replace(record, **theirs_alone) for record in each.vitals] for each in health]
    assert steps[0] == steps[1] and health[0].checkups == health[1].checkups


def test_a_run_whose_loader_process_is_killed_ends_with_the_same_bits(
    configure: Configure, trained: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Recorder.step

    def killing(self: Recorder, step: int, *args: object, **options: object) -> None:
        real(self, step, *args, **options)  # type: ignore[arg-type]
        if step == 3:
            for process in multiprocessing.active_children():
                process.kill()

    monkeypatch.setattr(Recorder, "step", killing)
    config = configure("sample.workers=1")
    with caplog.at_level("INFO", logger="hounsfield"):
        assert train.run(config).done == ("fold0",)
    assert "worker 1 of 1" in caplog.text and "was killed by SIGKILL" in caplog.text
    assert "patches by case since step 1: hn_" in caplog.text
    assert multiprocessing.active_children() == []
    ours, theirs = (load_file(work / "train/fold0/state" / FINAL) for work in (config.work, trained))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def copied(trained: Path, work: Path) -> Path:
    """Put a copy of a training into another work folder, and return the folder of its run."""
    shutil.copytree(trained / "train", work / "train")
    return work / "train" / "fold0"


def test_a_model_that_is_gone_is_written_again(
    configure: Configure, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configure()
    folder = copied(trained, config.work)
    shutil.rmtree(folder / "model")
    with caplog.at_level("WARNING", logger="hounsfield"):
        assert train.run(config).done == ("fold0",)
    assert "the model folder is gone" in caplog.text
    weights = load_file(folder / "model" / "weights.safetensors")
    state = load_file(folder / "state" / FINAL)
    assert all(torch.equal(weights[name], state[f"net/{name}"]) for name in weights)


def test_a_torn_model_is_written_again_and_a_lost_state_is_told(
    configure: Configure, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configure()
    folder = copied(trained, config.work)
    weights = folder / "model" / "weights.safetensors"
    assert weights.stat().st_mode & 0o777 == (folder / "run.json").stat().st_mode & 0o777
    os.truncate(weights, 1000)
    with caplog.at_level("WARNING", logger="hounsfield"):
        assert train.run(config).done == ("fold0",)
        Model.load(folder / "model")
        assert "the model folder is gone, torn" in caplog.text and "begins again" not in caplog.text
        shutil.rmtree(folder / "state")
        (folder / "done.json").unlink()
        assert train.run(config).done == ("fold0",)
    assert "no state is left of this run; it begins again at step 1" in caplog.text


def test_lost_curves_are_told(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    with stopped_after(6):
        train.run(configure())
    folder = configure().work / "train" / "fold0"
    for path in [folder / "train.csv", *folder.glob("events*")]:
        path.unlink()
    with caplog.at_level("WARNING", logger="hounsfield"):
        train.run(configure())
    assert "the rows of the run so far are gone" in caplog.text
    assert "the curves of the run so far are gone" in caplog.text


def test_a_model_of_a_validation_whose_state_was_lost_gives_way_to_the_next_one(
    configure: Configure, trained: Path
) -> None:
    config = configure("train.save_every_steps=6", "train.validate_every_steps=10", "train.steps=12")
    with stopped_after(8):
        train.run(config)
    folder = config.work / "train" / "fold0"
    shutil.copytree(trained / "train" / "fold0" / "model", folder / "model")
    description = read_json(folder / "model" / "model.json")
    description["facts"]["provenance"] |= {"step": 10, "validation_dice": 1.0}
    write_json(folder / "model" / "model.json", description)
    assert train.run(config).done == ("fold0",)
    done = read_json(folder / "done.json")
    model = read_facts(folder / "model").provenance
    assert model["step"] == done["best_step"] in (10, 12) and model["validation_dice"] == done["dice"] < 1
    assert train.run(configure("train.save_every_steps=6", "train.validate_every_steps=10")).skipped == ("fold0",)


def test_other_threads_are_told_to_change_the_last_bits(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Recorder.step

    def interrupting(self: Recorder, step: int, *args: object, **options: object) -> None:
        real(self, step, *args, **options)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(Recorder, "step", interrupting)
        train.run(configure())
    with caplog.at_level("WARNING", logger="hounsfield"):
        train.run(configure("train.threads=2"))
    assert "threads: 1 then, 2 now" in caplog.text


def test_a_finished_run_is_skipped_and_another_config_refused(configure: Configure, trained: Path) -> None:
    assert train.run(configure(work=trained)).skipped == ("fold0",)
    free = ("sample.workers=1", "train.log_every_steps=1", "train.on_sickness=stop")
    assert train.run(configure(*free, work=trained)).skipped == ("fold0",)
    with pytest.raises(UserError, match=r"train\.lr: .* then, 0\.5 now"):
        train.run(configure("train.lr=0.5", work=trained))


def test_without_a_held_out_fold_the_last_weights_are_the_model(configure: Configure) -> None:
    config = configure("train.fold=all", "train.steps=4")
    assert train.run(config).done == ("all",)
    provenance = read_facts(config.work / "train" / "all" / "model").provenance
    assert provenance["training_cases"] == list(TRAINING)
    assert provenance["step"] == 4


def test_cases_that_the_data_set_names_for_validation_are_held_out(
    configure: Configure, store: Path, tmp_path: Path
) -> None:
    shutil.copytree(store, tmp_path / "store")
    catalogue = read_json(tmp_path / "store" / "cases.json")
    for case in catalogue["cases"]:
        if case["name"] in TRAINING[1:3]:
            case["split"] = "validation"
    write_json(tmp_path / "store" / "cases.json", catalogue)
    for fold, held_out in ((0, TRAINING[1:3]), ("all", ())):
        _, cases = train.split(configure(f"train.fold={fold}", f"data.store={tmp_path / 'store'}"))
        assert tuple(case.name for case in cases.validation) == held_out
        assert {case.name for case in cases.training} == set(TRAINING) - set(held_out)


def test_minutes_become_a_step_count_that_is_kept(configure: Configure) -> None:
    config = configure("train.minutes=0.03", "train.validate_every_steps=1000")
    train.run(config)
    saved = sorted((config.work / "train/fold0/state").iterdir())[-1]
    progress = read_json(saved / "state.json")["facts"]["progress"]
    assert progress["steps"] == progress["step"] >= 20


def test_patience_ends_a_run_that_does_not_get_better(configure: Configure) -> None:
    # With a rate this low every validation scores the same, and only the first one is a best.
    config = configure("train.lr=1e-12", "train.patience=2", "train.validate_every_steps=1", "train.steps=100")
    train.run(config)
    done = read_json(config.work / "train/fold0/done.json")
    assert (done["step"], done["best_step"]) == (3, 1)


EXPLODING = '''
import torch
from torch import nn

class Exploding(nn.Module):
    """A linear network whose output is infinite from the third training batch on."""

    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.convolution = nn.Conv3d(channels_in, channels_out, 1)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, image):
        if self.training and len(image) == 2:
            self.seen += 1
        factor = float("inf") if self.seen >= 3 else 1.0
        return self.convolution(image) * factor
'''


def test_a_loss_that_is_not_finite_stops_with_step_cases_and_logits(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exploding.py").write_text(EXPLODING)
    monkeypatch.syspath_prepend(tmp_path)
    config = configure("net={name: exploding:Exploding}")
    with pytest.raises(UserError, match=r"the loss is nan in step 3, with logits from .*, on hn_0"):
        train.run(config)


def test_a_class_without_a_case_is_named_before_anything_is_written(configure: Configure, source: Path) -> None:
    config = configure("labels={Brainstem: 1, SpinalCord: 2, RightParotid: 3, LeftParotid: 4, Mandible: 5, Lens: 9}",
                       "augment.mirror=[]")  # fmt: skip
    with pytest.raises(UserError, match="labels"):
        train.run(config)
    assert not (config.work / "train").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sample.patch_vox=[2, 16, 16]", r"sample\.patch_vox.*UNet3d"),
        ("net.name=UNet4d", "UNet3d"),
        ("net.options={chanels: [4, 8]}", "channels"),
        ("train.device=cuda:77", "cuda"),
        ("prepare.spacing_mm=[4, 4, 4]", r"prepare\.spacing_mm"),
        ("data.exclude=[hn_00]", "did you mean 'hn_001'"),
    ],
)
def test_what_does_not_fit_gets_its_sentence(configure: Configure, override: str, words: str) -> None:
    if "cuda" in override and torch.cuda.device_count() > 77:
        pytest.skip("this machine has that device")
    with pytest.raises(UserError, match=words):
        train.run(configure(override))


def test_without_a_store_prepare_is_asked_for(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run prepare"):
        train.run(configure(f"data.store={tmp_path / 'nothing'}"))


@pytest.mark.parametrize("head", ["sigmoid", "regions"])
def test_every_kind_of_head_trains(configure: Configure, head: str, tmp_path: Path) -> None:
    labels = (
        "labels={Brainstem: 1, SpinalCord: 2, RightParotid: 3, LeftParotid: 4, Mandible: 5, "
        "swap: [[RightParotid, LeftParotid]], "
        "regions: {nerves: {classes: [Brainstem, SpinalCord], write: Brainstem}, "
        "cord: {classes: [SpinalCord], write: SpinalCord}}}"
    )
    config = configure(f"head.kind={head}", labels, "train.steps=3", "train.warmup_steps=1")
    train.run(config)
    model = Model.load(config.work / "train/fold0/model")
    assert model.facts.head.channels == {"sigmoid": 5, "regions": 2}[head]


def test_a_monai_network_trains_with_checkpointing(configure: Configure) -> None:
    net = "net={name: monai.UNet, checkpoint: blocks, options: {channels: [4, 8], strides: [2]}}"
    config = configure(net, "train.steps=3", "train.warmup_steps=1")
    assert train.run(config).done == ("fold0",)
    losses = [float(row["loss"]) for row in rows_of(config.work) if row["loss"]]
    assert all(math.isfinite(loss) for loss in losses)


def test_on_a_cpu_a_foreign_network_gets_bfloat16_only_where_asked_and_with_a_warning(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    net = "net={name: tests.line.foreign:Foreign, options: {}}"
    for amp, kind in (("auto", "float32"), ("bf16", "bfloat16")):
        caplog.clear()
        with caplog.at_level("INFO", logger="hounsfield"):
            config = configure(net, f"train.amp={amp}", "train.steps=3", "train.device=cpu", "train.restart=true")
            train.run(config)
        assert f"forward pass in {'torch.' * (amp == 'bf16')}{kind}" in caplog.text
        assert ("gradients of tests.line.foreign:Foreign may be wrong" in caplog.text) == (amp == "bf16")
