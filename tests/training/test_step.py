"""One update, its refusals, and the trial that times it."""

import copy
from math import inf, isfinite, isnan

import pytest
import torch

from pipeline.config.loss import LossSection
from pipeline.config.train import TrainSection
from pipeline.errors import UserError
from pipeline.losses.build import build
from pipeline.training.optimise import make_optimiser
from pipeline.training.step import Diverged, Step
from pipeline.training.trial import Trial

CPU = torch.device("cpu")


@pytest.fixture
def step(net, facts) -> Step:
    optimiser = make_optimiser(net, TrainSection(weight_decay=0.0))
    return Step(net, build(LossSection(), facts.head), optimiser, device=CPU, amp=None, clip=1.0)


def test_a_step_moves_the_weights_by_the_rate_and_tells_what_it_saw(step, batch) -> None:
    before = step.net.sharpness.item()
    result = step(1, batch, lr=0.5)
    assert abs(step.net.sharpness.item() - before) == pytest.approx(0.5, rel=1e-3)  # Adam's first step is the rate
    assert result.loss == pytest.approx(0.5 * result.parts["dice"] + 0.5 * result.parts["topk"])
    assert (result.logits_min, result.logits_max) == pytest.approx((-99.0, 40.0))
    assert result.prediction.shape == (2, 3, 8, 8, 8) and not result.prediction.requires_grad


def test_losses_of_the_samples_are_told_and_the_change_where_it_is_asked_for(step, batch) -> None:
    before = step.net.sharpness.item()
    result = step(1, batch, lr=0.5, measured=True)
    assert len(result.losses) == 2 and sum(result.losses) / 2 == pytest.approx(result.loss)
    assert result.update_share == pytest.approx(abs(step.net.sharpness.item() - before) / before)
    assert step(2, batch, lr=0.5).update_share is None


def test_measuring_changes_no_bit_of_training(step, batch) -> None:
    other = copy.deepcopy(step)
    other.optimiser = make_optimiser(other.net, TrainSection(weight_decay=0.0))
    for number in (1, 2, 3):
        step(number, batch, lr=0.5)
        other(number, batch, lr=0.5, measured=True)
    assert torch.equal(step.net.sharpness, other.net.sharpness)


def test_a_step_that_diverged_says_what_is_known_of_it(step, batch) -> None:
    step.net.register_forward_hook(lambda module, inputs, output: output * float("nan"))
    with pytest.raises(Diverged, match="step 3: the loss is nan; finite numbers were expected") as caught:
        step(3, batch, lr=0.5)
    result = caught.value.result
    assert isnan(result.loss) and len(result.losses) == 2 and isnan(result.logits_max) and isnan(result.grad_norm)


def test_a_network_that_cannot_repeat_its_bits_is_told(step, batch) -> None:
    step.net.register_forward_hook(
        lambda module, inputs, output: output.put_(torch.tensor([0]), output.detach().flatten()[:1])
    )
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(UserError, match=r"train\.deterministic: .* no put_"):
            step(1, batch, lr=0.5)
    finally:
        torch.use_deterministic_algorithms(before)


def test_gradients_that_are_not_finite_stop_the_run_and_leave_the_weights(step, batch) -> None:
    step.net.sharpness.register_hook(lambda gradient: gradient * float("inf"))
    before = copy.deepcopy(step.net.state_dict())
    with pytest.raises(UserError, match="step 3: the gradient norm is inf; finite numbers"):
        step(3, batch, lr=0.5)
    assert torch.equal(step.net.sharpness, before["sharpness"])


def test_float16_leaves_out_steps_that_overflow_until_its_factor_is_used_up(step, batch) -> None:
    step.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    step.net.sharpness.register_hook(lambda gradient: gradient * float("inf"))
    before = step.net.sharpness.item()
    for number in (1, 2):  # 4, then 2
        step(number, batch, lr=0.5)
    with pytest.raises(UserError, match="step 3: the gradient norm"):
        step(3, batch, lr=0.5)
    assert step.net.sharpness.item() == before


def test_a_trial_leaves_the_network_as_it_is(step, batch) -> None:
    before = copy.deepcopy(step.net.state_dict())
    trial = Trial(step.net, step.loss, lambda: batch, CPU)
    assert trial(None) > 0 and trial(torch.bfloat16) > 0
    assert torch.equal(step.net.sharpness, before["sharpness"]) and step.net.sharpness.grad is None


def test_a_trial_whose_gradients_are_not_finite_takes_for_ever(step, batch) -> None:
    step.net.register_forward_pre_hook(lambda module, inputs: overflow(module, torch.is_autocast_enabled("cpu")))
    trial = Trial(step.net, step.loss, lambda: batch, CPU)
    assert isfinite(trial(None))
    assert trial(torch.bfloat16) == inf


def overflow(net: torch.nn.Module, now: bool) -> None:
    if now:
        net.sharpness.register_hook(lambda gradient: gradient * inf)
