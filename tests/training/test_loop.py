"""Which weights become the model, and what is saved beside them."""

import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.config.loss import LossSection
from pipeline.config.train import TrainSection
from pipeline.errors import Interrupted, Superseded, UserError
from pipeline.losses.build import build
from pipeline.monitor.journal import read_records
from pipeline.sampling.batch import Batch
from pipeline.training.checkpoint import State, load_state, save_state, state_folders
from pipeline.training.loop import Loop
from pipeline.training.optimise import make_optimiser
from pipeline.training.owner import Owner
from pipeline.training.scored_cases import ScoredCases
from pipeline.training.step import Step
from pipeline.training.validate import Validation

CPU = torch.device("cpu")
NAN = float("nan")


@pytest.fixture
def run_with(net, facts, batch, make_recorder, tmp_path: Path) -> Callable:
    """Return a function that makes a run of 6 steps whose validations, after 2, 4 and 6, score what it is given."""

    def make(scores: list[float], kept: list, on_sickness: str = "warn", after_step: int = 0) -> Loop:
        train = TrainSection(steps=6, validate_every_steps=2, warmup_steps=0, on_sickness=on_sickness)
        step = Step(net, build(LossSection(), facts.head), make_optimiser(net, train), device=CPU, amp=None, clip=1.0)
        left = iter(scores)

        def validate(check: Callable[[], None], known: ScoredCases) -> Validation:
            mean = next(left)
            return Validation({"bone": mean, "gland": NAN}, mean, {})

        return Loop(
            step, train, 0, tmp_path / "state", make_recorder(tmp_path, facts.head, after_step=after_step),
            batches=lambda first, last: iter([batch] * (last - first)),
            validate=validate, keep=lambda number, dice: kept.append((number, dice)),
        )  # fmt: skip

    return make


def test_a_run_that_patience_ends_says_so(run_with: Callable, caplog: pytest.LogCaptureFixture) -> None:
    loop = run_with([0.5, 0.25, 0.75], [])
    loop.train = loop.train.model_copy(update={"patience": 1})
    with caplog.at_level("INFO"):
        assert loop.run().step == 4
    assert "train.patience: no better Dice since step 2; the run ends" in caplog.text


def test_a_state_of_another_network_is_refused_with_what_differs(run_with: Callable, tmp_path: Path) -> None:
    run_with([0.5, 0.75, 0.75], []).run()
    state = load_state(tmp_path / "state")
    assert state is not None
    first = next(name for name in state.tensors if name.startswith("net/"))
    other = replace(state, tensors={name: tensor for name, tensor in state.tensors.items() if name != first})
    with pytest.raises(UserError, match=rf"{first.removeprefix('net/')} is missing.*train\.restart=true"):
        run_with([], []).resume(other, has_model=True)


def test_only_a_better_score_is_kept_and_the_state_tells_of_it(run_with: Callable, tmp_path: Path) -> None:
    kept: list = []
    progress = run_with([0.5, 0.75, 0.75], kept).run()
    assert kept == [(2, 0.5), (4, 0.75)]
    assert (progress.best_step, progress.best_dice, progress.stale_validations) == (4, 0.75, 1)
    assert [path.name[-1] for path in state_folders(tmp_path / "state")] == ["6", "4"]
    state = load_state(tmp_path / "state")
    assert state is not None and state.facts["progress"]["validated"] == 6


def test_without_a_score_the_latest_weights_are_kept(run_with: Callable) -> None:
    kept: list = []
    progress = run_with([NAN, NAN, NAN], kept).run()
    assert kept == [(2, None), (4, None), (6, None)]
    assert (progress.best_step, progress.best_dice) == (6, None)


def test_a_crash_after_a_validation_repeats_none(run_with: Callable, tmp_path: Path) -> None:
    kept: list = []
    with pytest.raises(StopIteration):  # the second validation fails, whose state is saved before it
        run_with([0.5], kept).run()
    state = load_state(tmp_path / "state")
    assert state is not None and state.step == 4
    again = run_with([0.25, 0.75], kept)
    again.resume(state, has_model=True)
    again.run()
    assert kept == [(2, 0.5), (6, 0.75)]


def files_of(state: Path) -> dict[str, int]:
    """Return the files of a state, by name, with what tells one file from its replacement."""
    return {path.name: path.stat().st_ino for path in state.iterdir()}


def test_a_stop_within_a_validation_finds_its_state_written(run_with: Callable, tmp_path: Path) -> None:
    loop = run_with([], [])
    found: list[dict[str, int]] = []

    def stopped(check: Callable[[], None], known: ScoredCases) -> None:
        found.append(files_of(tmp_path / "state" / "step-000000002"))
        os.kill(os.getpid(), signal.SIGTERM)
        check()

    loop.validate = stopped
    with pytest.raises(Interrupted):
        loop.run()
    assert load_state(tmp_path / "state").step == 2
    assert found == [files_of(tmp_path / "state" / "step-000000002")]


def test_a_kill_after_a_validation_leaves_it_done(
    run_with: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: ScoredCases) -> None:
        raise SystemExit

    loop, scored = run_with([0.5], []), tmp_path / "state" / "step-000000002" / "validation.json"
    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(ScoredCases, "remove", killed)
        loop.run()
    scored.touch()
    state = load_state(tmp_path / "state")
    assert state is not None and state.facts["progress"]["validated"] == 2
    run_with([], []).resume(state, has_model=True)
    assert not scored.exists()


def test_scores_are_written_by_the_owner_alone(run_with: Callable, tmp_path: Path) -> None:
    loop = run_with([], [])
    loop.owner = Owner(tmp_path)

    def taken_over(check: Callable[[], None], known: ScoredCases) -> None:
        Owner(tmp_path)
        known.add({"case": {}})
        known.write()

    loop.validate = taken_over
    with pytest.raises(Superseded):
        loop.run()
    assert not list((tmp_path / "state").rglob("validation.json"))


def test_another_process_s_state_does_not_get_these_facts(run_with: Callable, tmp_path: Path) -> None:
    loop = run_with([], [])

    def replaced(check: Callable[[], None], known: ScoredCases) -> Validation:
        save_state(tmp_path / "state", State(2, {"net/other": torch.zeros(1)}, {}))
        return Validation({"bone": 0.5, "gland": NAN}, 0.5, {})

    loop.progress = replace(loop.progress, steps=2)
    loop.validate = replaced
    loop.run()
    found = load_state(tmp_path / "state")
    assert found is not None and "net/other" not in found.tensors and found.facts["progress"]["validated"] == 2


@pytest.mark.parametrize("lost", ["nothing", "state.json", "tensors.safetensors"])
def test_after_a_validation_only_the_facts_are_written_again(run_with: Callable, tmp_path: Path, lost: str) -> None:
    loop = run_with([], [])
    state = tmp_path / "state" / "step-000000002"
    before: list[int] = []

    def scored(check: Callable[[], None], known: ScoredCases) -> Validation:
        before.append((state / "tensors.safetensors").stat().st_ino)
        if lost != "nothing":
            (state / lost).unlink()
        return Validation({"bone": 0.5, "gland": NAN}, 0.5, {})

    loop.progress = replace(loop.progress, steps=2)
    loop.validate = scored
    loop.run()
    found = load_state(tmp_path / "state")
    assert found is not None and found.facts["progress"]["validated"] == 2
    assert ((state / "tensors.safetensors").stat().st_ino == before[0]) == (lost == "nothing")


def test_what_was_drawn_is_counted_on_after_a_resume(run_with: Callable, tmp_path: Path) -> None:
    with pytest.raises(StopIteration):  # the second validation fails, whose state is saved before it
        run_with([0.5], []).run()
    again = run_with([0.5, 0.75], [])
    again.resume(load_state(tmp_path / "state"), has_model=True)
    assert (again.recorder.tally.by_case, again.recorder.tally.since_step) == ({"case_0": 4, "case_1": 4}, 1)
    again.run()
    assert again.recorder.tally.by_case == {"case_0": 6, "case_1": 6}


def test_the_end_of_a_run_closes_its_batches(run_with: Callable, batch) -> None:
    closed = []

    def stream(first: int, last: int) -> Iterator[Batch]:
        try:
            while True:
                yield batch
        finally:
            closed.append((first, last))

    run = run_with([0.5, 0.5, 0.5], [])
    run.batches = stream
    run.run()
    assert closed == [(1, 7)]


def ill(batch: Batch) -> Batch:
    """Return a batch with a label that belongs to no class."""
    labels = batch.labels.clone()
    labels[0, 0, 0, 0] = 9
    return replace(batch, labels=labels)


def end_of(run: Loop) -> str:
    """Return the sentence that ends a run."""
    with pytest.raises(UserError) as caught:
        run.run()
    return str(caught.value)


def test_a_sick_run_is_stopped_where_asked_and_its_state_goes_on_under_warn(
    run_with: Callable, batch: Batch, tmp_path: Path
) -> None:
    def sick_from_1(on_sickness: str, after_step: int = 0) -> Loop:
        run = run_with([0.5] * 3, [], on_sickness=on_sickness, after_step=after_step)
        half = replace(batch, labels=batch.labels / 2)  # as a loader makes them that rescales pictures
        run.batches = lambda first, last: iter([half] * (last - first))
        return run

    said = end_of(sick_from_1("stop"))
    assert said.startswith("train.on_sickness=stop: after step 1 the run looks ill. ")
    assert "train.on_sickness=warn goes on" in said
    state = load_state(tmp_path / "state")
    assert state is not None and state.step == 1
    again = sick_from_1("stop", after_step=1)
    again.resume(state, has_model=False)
    assert "after step 1 the run looks ill" in end_of(again)
    warned = sick_from_1("warn", after_step=1)
    warned.resume(state, has_model=False)
    assert warned.run().step == 6
    assert len(warned.recorder.watchdog.findings) == 1


def test_a_run_that_diverged_is_written_down_and_named(run_with: Callable, tmp_path: Path) -> None:
    run = run_with([0.5], [])
    run.step.net.register_forward_hook(
        lambda module, inputs, output: output * float("nan") if module.training and run.progress.step == 2 else output
    )
    said = end_of(run)
    last = read_records(tmp_path).vitals[-1]
    assert (last.step, math.isnan(last.loss), last.cases) == (3, True, ("case_0", "case_1"))
    (finding,) = run.recorder.watchdog.standing
    assert said == f"step 3 ended the run: {finding} Once a state is saved, a changed config needs train.restart=true."
    assert said.count("the loss is nan") == said.count("with logits") == said.count("train.lr") == 1


def test_a_run_that_diverged_and_has_another_disease_is_told_both(run_with: Callable) -> None:
    run = run_with([0.5], [])
    run.recorder.watchdog.facts = replace(run.recorder.watchdog.facts, not_hu={"case_0": "8-bit picture"})
    run.step.net.register_forward_hook(lambda module, inputs, output: output * float("nan"))
    assert end_of(run).startswith("step 1: the loss is nan. This looks like input that is not HU: ")


def test_labels_that_the_loss_cannot_take_are_named(run_with: Callable, batch: Batch, tmp_path: Path) -> None:
    run = run_with([], [])
    run.batches = lambda first, last: iter([ill(batch)])
    said = end_of(run)
    (last,) = read_records(tmp_path).vitals
    assert last.strange_labels == (9.0,) and math.isnan(last.loss)
    (finding,) = run.recorder.watchdog.standing
    assert said.startswith("step 1: ") and f"This looks like {finding} Once a state is saved" in said


def test_an_error_that_is_not_of_numbers_or_labels_stays_what_it_is(run_with: Callable, tmp_path: Path) -> None:
    run = run_with([], [])
    run.step.net.register_forward_pre_hook(lambda module, inputs: {}["nothing"])
    with pytest.raises(KeyError, match="nothing"):
        run.run()
    assert read_records(tmp_path).vitals == []


def test_a_run_that_holds_nothing_out_writes_down_what_training_gave(run_with: Callable, tmp_path: Path) -> None:
    run = run_with([], [])
    run.validate = None
    run.run()
    checkups = read_records(tmp_path).checkups
    assert [(checkup.step, checkup.dice) for checkup in checkups] == [(2, {}), (4, {}), (6, {})]
    assert {name: case.patches for name, case in checkups[-1].training.items()} == {"case_0": 2, "case_1": 2}
