"""Which weights become the model, and what is saved beside them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.loss import LossSection
from pipeline.config.train import TrainSection
from pipeline.losses.build import build
from pipeline.sampling.batch import Batch
from pipeline.training.checkpoint import load_state, state_folders
from pipeline.training.loop import Loop
from pipeline.training.optimise import make_optimiser
from pipeline.training.step import Step
from pipeline.training.validate import Validation

CPU = torch.device("cpu")
NAN = float("nan")


@pytest.fixture
def run_with(net, facts, batch, make_recorder, tmp_path: Path) -> Callable:
    """Return a function that makes a run of 6 steps whose validations, after 2, 4 and 6, score what it is given."""

    def make(scores: list[float], kept: list) -> Loop:
        train = TrainSection(steps=6, validate_every_steps=2, warmup_steps=0)
        loss = build(LossSection(), facts.head)
        step = Step(net, loss, make_optimiser(net, train), device=CPU, amp=None, clip=1.0)
        left = iter(scores)

        def validate(check: Callable[[], None]) -> Validation:
            mean = next(left)
            return Validation({"bone": mean, "gland": NAN}, mean, np.zeros((4, 4, 3), np.uint8))

        return Loop(
            step, train, 0, tmp_path / "state", make_recorder(tmp_path, facts.head),
            batches=lambda first, last: iter([batch] * (last - first)),
            validate=validate, keep=lambda number, dice: kept.append((number, dice)),
        )  # fmt: skip

    return make


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
    with pytest.raises(StopIteration):  # the second validation fails, after the state of step 2
        run_with([0.5], kept).run()
    state = load_state(tmp_path / "state")
    assert state is not None and state.step == 2
    again = run_with([0.25, 0.75], kept)
    again.resume(state, has_model=True)
    again.run()
    assert kept == [(2, 0.5), (6, 0.75)]


def test_what_was_drawn_is_counted_on_after_a_resume(run_with: Callable, tmp_path: Path) -> None:
    with pytest.raises(StopIteration):  # the second validation fails, after the state of step 2
        run_with([0.5], []).run()
    again = run_with([0.5, 0.75], [])
    again.resume(load_state(tmp_path / "state"), has_model=True)
    assert (again.recorder.tally.by_case, again.recorder.tally.since_step) == ({"case_0": 2, "case_1": 2}, 1)
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
