"""The learning rate of each step: by hand, against torch's schedulers, and within its bounds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from pipeline.config.train import TrainSection
from pipeline.training.schedule import learning_rate

SCHEDULES = ("constant", "cosine", "polynomial", "step", "triangular2")


def rates_of(train: TrainSection, steps: int) -> list[float]:
    return [learning_rate(step, steps, train) for step in range(1, steps + 1)]


def torch_rates(steps: int, lr: float, scheduler: type, **options: object) -> list[float]:
    """Return the rates that one of torch's schedulers gives the first `steps` steps."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = scheduler(optimiser, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates


def test_the_rate_rises_over_the_warm_up_in_equal_parts() -> None:
    train = TrainSection(lr=0.5, warmup_steps=4, schedule="constant")
    rates = [learning_rate(step, 100, train) for step in range(1, 7)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])


def test_the_cosine_is_at_half_the_rate_in_the_middle_and_near_zero_at_the_end() -> None:
    train = TrainSection(lr=0.2, warmup_steps=0, schedule="cosine")
    assert learning_rate(1, 100, train) == pytest.approx(0.2)
    assert learning_rate(51, 100, train) == pytest.approx(0.1)
    assert 0 < learning_rate(100, 100, train) < 0.2 * 0.001


def test_the_polynomial_falls_to_what_is_left_of_the_run_to_its_power() -> None:
    # After 2 of the 10 steps that follow the warm-up 8 / 10 are left, before the last step 1 / 10.
    train = TrainSection(lr=0.5, warmup_steps=5, schedule="polynomial", power=2.0)
    assert learning_rate(6, 15, train) == pytest.approx(0.5)
    assert learning_rate(8, 15, train) == pytest.approx(0.5 * 0.64)
    assert learning_rate(15, 15, train) == pytest.approx(0.5 * 0.01)


def test_the_rate_drops_at_shares_of_the_run() -> None:
    train = TrainSection(lr=0.8, warmup_steps=0, schedule="step", drop_at=(0.3, 0.6), drop_factor=0.25)
    assert rates_of(train, 10) == pytest.approx([0.8] * 3 + [0.2] * 3 + [0.05] * 4)


def test_triangles_begin_at_a_hundredth_and_halve() -> None:
    # Two cycles of 4 steps, LOWEST 0.01: up to 1, then up to 0.01 + 0.99 / 2; half-way 0.505 and 0.2575.
    train = TrainSection(lr=1.0, schedule="triangular2", cycles=2)
    assert rates_of(train, 8) == pytest.approx([0.01, 0.505, 1, 0.505, 0.01, 0.2575, 0.505, 0.2575])


def test_a_warm_up_that_is_asked_for_holds_for_triangles_too() -> None:
    train = TrainSection(lr=1.0, schedule="triangular2", cycles=1, warmup_steps=1)
    assert rates_of(train, 5) == pytest.approx([0.005, 0.01, 0.505, 1, 0.505])


@pytest.mark.parametrize(
    ("keys", "scheduler", "options"),
    [
        ({"schedule": "cosine"}, lr_scheduler.CosineAnnealingLR, {"T_max": 60}),
        ({"schedule": "polynomial"}, lr_scheduler.PolynomialLR, {"total_iters": 60, "power": 0.9}),
        (
            {"schedule": "step", "drop_at": (0.25, 0.5, 0.75), "drop_factor": 0.5},
            lr_scheduler.StepLR,
            {"step_size": 15, "gamma": 0.5},
        ),
        (
            {"schedule": "triangular2", "cycles": 3},
            lr_scheduler.CyclicLR,
            {"base_lr": 0.003, "max_lr": 0.3, "step_size_up": 10, "mode": "triangular2", "cycle_momentum": False},
        ),
    ],
)
def test_torch_gives_the_same_rates(keys: dict, scheduler: type, options: dict) -> None:
    train = TrainSection(lr=0.3, warmup_steps=0, **keys)
    assert rates_of(train, 60) == pytest.approx(torch_rates(60, 0.3, scheduler, **options))


@given(
    schedule=st.sampled_from(SCHEDULES),
    steps=st.integers(1, 10**6),
    place=st.floats(0, 1),
    warmup=st.one_of(st.just("auto"), st.integers(0, 2000)),
    cycles=st.integers(1, 5000),
    power=st.floats(0.1, 3),
)
def test_every_rate_is_above_zero_and_at_most_the_largest(
    schedule: str, steps: int, place: float, warmup: int | str, cycles: int, power: float
) -> None:
    train = TrainSection(lr=0.7, schedule=schedule, warmup_steps=warmup, cycles=cycles, power=power)
    assert 0 < learning_rate(1 + round(place * (steps - 1)), steps, train) <= 0.7 * (1 + 1e-12)


@given(st.sampled_from(["cosine", "polynomial", "triangular2"]), st.integers(200, 10**6))
def test_schedules_that_fall_end_at_a_fiftieth_of_the_rate_or_below(schedule: str, steps: int) -> None:
    train = TrainSection(lr=1.0, schedule=schedule, power=1.0)
    assert learning_rate(steps, steps, train) < 0.02


@pytest.mark.parametrize("schedule", ["constant", "cosine", "polynomial", "step"])
def test_a_length_that_is_not_known_yet_holds_the_rate(schedule: str) -> None:
    train = TrainSection(lr=0.2, warmup_steps=10, schedule=schedule, drop_at=(0.01,))
    assert learning_rate(15, None, train) == 0.2


def test_a_length_that_is_not_known_yet_keeps_triangles_low() -> None:
    train = TrainSection(lr=0.2, schedule="triangular2")
    assert [learning_rate(step, None, train) for step in (1, 20)] == pytest.approx([0.002, 0.002])
