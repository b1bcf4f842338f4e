"""Gradient checkpointing: just enough for the memory at hand."""

import pytest

from pipeline.errors import UserError
from pipeline.planning.cost import GIB, Cost
from pipeline.planning.recompute import just_enough

COSTS = {"none": 8.0, "blocks": 5.0, "deep": 3.0}  # GiB beside the program's half


def measured(mode: str) -> Cost:
    return Cost(round(COSTS[mode] * GIB), GIB // 2, seconds=1.0)


@pytest.mark.parametrize(
    ("free_gib", "mode"), [(11, "none"), (10, "blocks"), (7, "blocks"), (6, "deep"), (4.4, "deep")]
)
def test_the_first_mode_that_fits_four_fifths_of_free_memory_is_taken(free_gib: float, mode: str) -> None:
    # with the program 8.5, 5.5 and 3.5 GiB, of 8.8, 8, 5.6, 4.8 and 3.52
    assert just_enough(measured, round(free_gib * GIB)).mode == mode


def test_the_reason_has_the_figures_of_what_was_tried() -> None:
    reason = just_enough(measured, 7 * GIB).reason
    assert reason == "none takes 8.50 GiB; blocks takes 5.50 GiB; 5.60 GiB may be taken"


def test_a_step_that_ran_out_of_memory_does_not_fit() -> None:
    assert just_enough(lambda mode: None if mode == "none" else measured(mode), 100 * GIB).mode == "blocks"


def test_a_mode_that_the_network_cannot_have_is_passed_over() -> None:
    def refusing(mode: str) -> Cost:
        if mode == "blocks":
            raise UserError("no blocks here")
        return measured(mode)

    decision = just_enough(refusing, 10 * GIB)
    assert decision.mode == "deep"
    assert "blocks cannot be had (no blocks here)" in decision.reason


def test_where_nothing_fits_all_figures_are_told() -> None:
    expected = r"2\.40 GiB.*none takes 8\.50 GiB; blocks takes 5\.50 GiB; deep takes 3\.50 GiB.*smaller sample\.batch"
    with pytest.raises(UserError, match=expected):
        just_enough(measured, 3 * GIB)


def test_a_network_that_cannot_be_made_is_no_question_of_memory() -> None:
    def broken(mode: str) -> Cost:
        raise UserError("net.options: no")

    with pytest.raises(UserError, match=r"net\.options: no"):
        just_enough(broken, GIB)
