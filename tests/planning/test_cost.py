"""Costs along a line, by hand."""

from math import inf

import pytest

from pipeline.config.net import NetSection
from pipeline.planning.cost import Cost, CostModel, Limits, Line, Trial, remembering


def test_a_line_goes_through_both_points_in_either_order() -> None:
    line = Line.through((10, 130.0), (20, 230.0))
    assert line == Line.through((20, 230.0), (10, 130.0)) == Line(30.0, 10.0)
    assert line.at(50) == 530
    assert line.voxels_within(530) == 50
    assert line.voxels_within(29) == 0
    assert line.voxels_within(None) == inf


@pytest.mark.parametrize("points", [((10, 100.0), (10, 100.0)), ((10, 100.0), (20, 90.0))])
def test_without_a_slope_a_cost_grows_in_proportion(points: tuple[tuple[int, float], tuple[int, float]]) -> None:
    line = Line.through(*points)
    assert line.fixed == 0
    assert line.at(max(points)[0]) == 100


def test_memory_is_a_line_and_seconds_a_proportion() -> None:
    small, large = (Trial(NetSection(), (edge, 10, 10), 2) for edge in (10, 20))  # 2000 and 4000 voxels
    model = CostModel.of((small, Cost(5000, 7, 3.0)), (large, Cost(7000, 7, 4.0)))
    assert model.by_memory(Limits(9000, None)) == 6000
    assert model.by_time(Limits(9000, 5.0)) == 5000
    assert model.within(Limits(9000, 5.0)) == 5000
    assert model.within(Limits(9000, None)) == 6000


def test_a_trial_is_measured_once() -> None:
    asked: list[Trial] = []

    def measure(trial: Trial) -> Cost | None:
        asked.append(trial)
        return Cost(1, 2, 3.0)

    recall = remembering(measure)
    one, same, other = (Trial(NetSection(options={"channels": [4, 8]}), (8, 8, 8), batch) for batch in (2, 2, 3))
    assert recall(one) == recall(same) == recall(other) == Cost(1, 2, 3.0)
    assert asked == [one, other]
