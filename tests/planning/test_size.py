"""The size of a step, with a device whose costs are a known function: what is chosen must be within its limits."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, prod

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.planning.choice import AS_GIVEN
from pipeline.planning.cost import GIB, Cost, Measure, Trial
from pipeline.planning.evidence import Evidence
from pipeline.planning.network import CPU
from pipeline.planning.size import SLACK, Size, Sizing, Target, Wishes

MakeEvidence = Callable[..., Evidence]
SMALL_NET = NetSection(options={"channels": [4, 8, 8, 8]})
FIXED_BYTES = 50 * 2**20
KEPT = {"none": 1.0, "blocks": 0.5, "deep": 0.4}  # of what a step holds for each voxel


def device(memory_gb: float = 8.0, seconds: float | None = 1.0, **keys: float) -> Target:
    return Target(CPU, memory_gb * GIB, seconds, program_counts=False, tried_voxels=32**3, **keys)


def costs(bytes_a_voxel: float = 1000.0, seconds_a_voxel: float = 1e-6, bend: float = 0.0) -> Measure:
    """Return what measures a step of a made-up network; with a bend, larger ones cost more than a line would say."""

    def measure(trial: Trial) -> Cost:
        kept = KEPT[trial.net.checkpoint]
        more = 1 + bend * trial.voxels / 1e6
        return Cost(round(FIXED_BYTES + kept * bytes_a_voxel * more * trial.voxels), 0, seconds_a_voxel * trial.voxels)

    return measure


def choose(evidence: Evidence, on: Target, measure: Measure, net: NetSection = SMALL_NET, **wishes: object) -> Size:
    return Sizing(evidence, Wishes(net, **wishes), 2, on, measure).choose()


def test_time_limits_the_patch(make_evidence: MakeEvidence) -> None:
    size = choose(make_evidence(), device(seconds=1.0), costs())
    assert size.limiting == "time"
    assert 0.7e6 < size.trial.voxels <= 1e6  # a second is a million voxels
    assert size.trial.batch == 2
    assert size.trial.net.checkpoint == "none"
    assert size.measured is not None
    assert size.measured.seconds <= 1.0


# The body has 3.84 million voxels. Two patches of a quarter of it are 1.92 million: 1.84 GiB by 1000 bytes,
# 0.94 by 500, 0.76 by 400.
@pytest.mark.parametrize(("memory_gb", "mode"), [(2.0, "none"), (1.0, "blocks"), (0.8, "deep"), (0.5, "deep")])
def test_where_memory_keeps_the_patch_small_just_enough_is_recomputed(
    make_evidence: MakeEvidence, memory_gb: float, mode: str
) -> None:
    size = choose(make_evidence(), device(memory_gb, seconds=None), costs())
    assert size.limiting == "memory"
    assert size.trial.net.checkpoint == mode
    assert size.measured is not None
    assert 0.7 * memory_gb * GIB < size.measured.memory_bytes <= memory_gb * GIB
    assert size.predicted.memory_bytes == pytest.approx(size.measured.memory_bytes, rel=1e-6)


def test_the_mode_that_the_config_says_stays(make_evidence: MakeEvidence) -> None:
    for mode, memory_gb in (("none", 0.5), ("deep", 8.0)):
        net = SMALL_NET.model_copy(update={"checkpoint": mode})
        assert choose(make_evidence(), device(memory_gb, None), costs(), net).trial.net.checkpoint == mode


def test_auto_is_planned_for_with_the_mode_that_it_will_come_to(make_evidence: MakeEvidence) -> None:
    net = SMALL_NET.model_copy(update={"checkpoint": "auto"})
    assert choose(make_evidence(), device(1.0, None), costs(), net).trial.net.checkpoint == "blocks"


# 2 x 96 x 96 x 64 voxels, 1.18 million: 1.15 GiB by 1000 bytes, 0.60 by 500, 0.49 by 400
@pytest.mark.parametrize(("memory_gb", "mode"), [(1.3, "none"), (0.7, "blocks"), (0.55, "deep"), (0.3, "deep")])
def test_a_wished_patch_is_made_to_fit_by_recomputing_however_long_it_takes(
    make_evidence: MakeEvidence, memory_gb: float, mode: str
) -> None:
    size = choose(make_evidence(), device(memory_gb, seconds=0.1), costs(), patch_vox=(96, 96, 64))
    assert (size.trial.patch_vox, size.trial.net.checkpoint) == ((96, 96, 64), mode)


def test_deep_is_not_taken_where_its_time_leaves_a_smaller_patch(make_evidence: MakeEvidence) -> None:
    def measure(trial: Trial) -> Cost:
        slower = 10.0 if trial.net.checkpoint == "deep" else 1.0
        return replace(costs()(trial), seconds=slower * 1e-6 * trial.voxels)

    assert choose(make_evidence(), device(0.5, 1.0), measure).trial.net.checkpoint == "blocks"


def test_a_mode_that_the_network_cannot_have_is_passed_over(make_evidence: MakeEvidence) -> None:
    def measure(trial: Trial) -> Cost:
        if trial.net.checkpoint == "blocks":
            raise UserError("no blocks here")
        return costs()(trial)

    assert choose(make_evidence(), device(1.0, None), measure).trial.net.checkpoint == "deep"


def test_a_network_whose_smallest_steps_fit_only_in_deep_is_planned_with_it(make_evidence: MakeEvidence) -> None:
    def measure(trial: Trial) -> Cost | None:
        return costs()(trial) if trial.net.checkpoint == "deep" else None

    assert choose(make_evidence(), device(), measure).trial.net.checkpoint == "deep"


def test_a_network_that_cannot_be_made_is_refused_with_its_own_sentence(make_evidence: MakeEvidence) -> None:
    def measure(trial: Trial) -> Cost:
        raise UserError("net.options: no")

    with pytest.raises(UserError, match=r"net\.options: no"):
        choose(make_evidence(), device(), measure)


def test_the_whole_body_leaves_room_for_a_larger_batch(make_evidence: MakeEvidence) -> None:
    body = {"shape_vox": (32, 32, 32), "largest_vox": 5000}
    size = choose(make_evidence(*[body] * 200), device(seconds=0.3), costs())
    assert size.limiting == "the body"
    assert size.trial.patch_vox == (32, 32, 32)
    assert size.trial.batch == 9  # 0.3 million voxels


def test_a_patch_that_sees_little_makes_the_grid_coarser(make_evidence: MakeEvidence) -> None:
    size = choose(make_evidence(), device(seconds=0.1), costs())
    assert size.spacing.value > (2.0, 2.0, 2.0)
    assert 0.15 < prod(size.trial.patch_vox) / prod(size.body_vox) <= 0.35


def test_what_is_wished_for_stays(make_evidence: MakeEvidence) -> None:
    size = choose(
        make_evidence(), device(), costs(), spacing_mm=(1.5, 1.5, 1.5), patch_vox=(40, 40, 24), batch=3
    )  # fmt: skip
    assert size.spacing == ((1.5, 1.5, 1.5), AS_GIVEN)
    assert (size.trial.patch_vox, size.trial.batch) == ((40, 40, 24), 3)
    assert size.batch_reason == AS_GIVEN


def test_a_wished_patch_stays_even_where_it_takes_more_than_the_limit(make_evidence: MakeEvidence) -> None:
    size = choose(make_evidence(), device(memory_gb=0.1), costs(), patch_vox=(64, 64, 64))
    assert size.trial.patch_vox == (64, 64, 64)
    assert size.measured is not None
    assert size.measured.memory_bytes > 0.1 * GIB


def test_a_network_that_costs_more_than_its_line_gets_a_smaller_patch(make_evidence: MakeEvidence) -> None:
    size = choose(make_evidence(), device(1.0, None), costs(bend=0.5))
    assert size.measured is not None
    assert size.measured.memory_bytes <= GIB
    assert size.predicted.memory_bytes < size.measured.memory_bytes


def test_a_step_that_does_not_fit_at_all_is_tried_smaller(make_evidence: MakeEvidence) -> None:
    def measure(trial: Trial) -> Cost | None:
        return None if trial.voxels > 300_000 else costs()(trial)

    size = choose(make_evidence(), device(seconds=0.5), measure)
    assert 100_000 < size.trial.voxels <= 300_000


def test_a_step_that_stays_too_slow_however_often_it_is_made_smaller_is_taken(make_evidence: MakeEvidence) -> None:
    tried: list[Trial] = []

    def measure(trial: Trial) -> Cost:
        tried.append(trial)
        return replace(costs()(trial), seconds=0.03 if len(tried) <= 2 else 1.3 * SLACK)

    size = choose(make_evidence({"largest_vox": 200}), device(seconds=1.0), measure)
    assert size.limiting == "time"
    assert size.trial == tried[-1]
    assert size.measured is not None
    assert size.measured.seconds > SLACK


def test_memory_for_no_patch_at_all_is_refused(make_evidence: MakeEvidence) -> None:
    with pytest.raises(UserError, match=r"plan: even 2 patches of .* do not fit the memory limit of 0\.04 GiB"):
        choose(make_evidence(), device(memory_gb=0.04), costs())


def test_a_device_without_any_memory_is_refused(make_evidence: MakeEvidence) -> None:
    with pytest.raises(UserError, match="do not fit the memory limit of 8 GiB"):
        choose(make_evidence(), device(), lambda trial: None)


def test_what_this_device_cannot_try_is_predicted_only(make_evidence: MakeEvidence) -> None:
    on = device(memory_gb=20.0, seconds=None, measured_bytes=inf, measured_seconds=0.5)
    size = choose(make_evidence(), on, costs())
    assert on.elsewhere
    assert size.measured is None
    assert size.predicted.memory_bytes <= 20 * GIB


def test_the_programs_own_memory_is_taken_off_on_a_cpu(make_evidence: MakeEvidence) -> None:
    def measure(trial: Trial) -> Cost:
        return Cost(costs()(trial).memory_bytes, GIB // 2, 0.0001)

    on = Target(CPU, GIB, None, program_counts=True, tried_voxels=32**3)
    size = choose(make_evidence(), on, measure)
    assert size.measured is not None
    assert size.measured.memory_bytes + GIB // 2 <= GIB


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500)),
    spacing=st.tuples(st.floats(0.5, 5), st.floats(0.5, 5), st.floats(0.5, 5)),
    memory_gb=st.floats(0.2, 24),
    seconds=st.none() | st.floats(0.1, 3),
)
def test_any_data_get_a_patch_within_the_limits_or_a_sentence(
    make_evidence: MakeEvidence,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    memory_gb: float,
    seconds: float | None,
) -> None:
    evidence = make_evidence({"shape_vox": shape, "spacing_mm": spacing, "largest_vox": max(1, prod(shape) // 10)})
    on = device(memory_gb, seconds)
    try:
        size = choose(evidence, on, costs(), NetSection(options={"channels": [2, 2, 2]}))
    except UserError as error:
        assert "do not fit" in str(error)
        return
    assert size.measured is not None
    assert size.measured.memory_bytes <= memory_gb * GIB
    assert size == choose(evidence, on, costs(), NetSection(options={"channels": [2, 2, 2]}))
    smallest = all(size.trial.patch_vox[axis] <= 32 for axis in range(3))
    assert seconds is None or smallest or size.measured.seconds <= SLACK * seconds
