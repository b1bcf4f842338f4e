"""When the watchdog looks, what it remembers, and that a replay finds what it found."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from pipeline.monitor import watchdog as module
from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms.diagnose import STEP_RULES, diagnose, found_by
from pipeline.monitor.symptoms.validation import ALL_BACKGROUND
from pipeline.monitor.symptoms.window import LATEST
from pipeline.monitor.vitals import Vitals
from pipeline.monitor.watchdog import FIRST, RECENT, Watchdog

Well = Callable[..., Vitals]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list that fills with the last step and the number of records of each look."""
    found: list[tuple[int, int]] = []

    def noting(rules, history, facts, checkups):
        if rules is STEP_RULES:
            found.append((history[-1].step, len(history)))
        return found_by(rules, history, facts, checkups)

    monkeypatch.setattr(module, "found_by", noting)
    return found


def recorded(steps: int, every: int) -> list[int]:
    """Return the steps that a run writes down."""
    return [step for step in range(1, steps + 1) if step <= 100 or step % every == 0]


def test_it_looks_at_the_first_step_and_then_once_in_ten(facts: RunFacts, well: Well, looks: list) -> None:
    dog = Watchdog(replace(facts, not_hu={}))
    for step in recorded(150, every=7):
        dog.see(well(step))
    assert [step for step, _ in looks] == [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 112, 126, 133, 140]
    assert dog.findings == []


def test_in_a_long_run_it_looks_each_hundredth_and_holds_a_bounded_history(
    facts: RunFacts, well: Well, looks: list
) -> None:
    dog = Watchdog(replace(facts, not_hu={}))
    for step in recorded(20_000, every=10):
        dog.see(well(step))
    late = [step for step, _ in looks if step >= 19_000]
    assert {after - before for before, after in pairwise(late)} == {200}  # from 190 on, in tens
    assert len(looks) < 500
    assert looks[-1][1] == FIRST + RECENT
    assert (dog.first[-1].step, dog.recent[0].step, dog.recent[-1].step) == (100, 18_010, 20_000)


def test_a_disease_is_told_once_and_remembered(facts: RunFacts, well: Well, outside: Well) -> None:
    dog = Watchdog(replace(facts, not_hu={}))
    told = [dog.see(record) for record in [well(1), *map(outside, range(2, 41))]]
    (first,) = [found for found in told if found]
    assert told.index(first) == 9 and len(first) == 1  # step 10 is the first look after step 1
    assert dog.findings == first and dog.noticed[0].step == 10
    assert [finding.name for finding in dog.standing] == [first[0].name]


def test_the_record_that_ended_a_run_is_looked_at(facts: RunFacts, well: Well, outside: Well) -> None:
    dog = Watchdog(replace(facts, not_hu={}))
    dog.see(well(1))
    assert dog.see(outside(2)) == []
    assert len(dog.see(outside(3), last=True)) == 1


def test_a_checkup_is_looked_at(facts: RunFacts, well: Well, looks: list, checkup: Checkup) -> None:
    dog = Watchdog(replace(facts, not_hu={}))
    for step in (1, 2):
        dog.see(well(step))
    dog.see(replace(checkup, step=2))
    assert looks == [(1, 1), (2, 2)]


@pytest.mark.parametrize("end", [10, 15, 47])
def test_a_replay_finds_the_same_at_the_same_steps_and_how_the_run_stands(
    facts: RunFacts, well: Well, outside: Well, checkup: Checkup, end: int
) -> None:
    records = [outside(step) if 4 <= step < 10 else well(step) for step in range(1, end + 1)]
    validation = replace(checkup, step=12)
    live, replayed = (Watchdog(replace(facts, not_hu={})) for _ in range(2))
    for record in records:
        live.see(record)
        if record.step == validation.step:
            live.see(validation)
    replayed.replay(records, [validation])
    if end > validation.step:
        assert (replayed.standing, replayed.looked_at_step) == (live.standing, live.looked_at_step)
    replayed.look_at_end()
    assert replayed.noticed == live.noticed and replayed.checkups == [validation]
    assert replayed.looked_at_step == max(end, validation.step)
    assert replayed.standing == diagnose(records, facts=replace(facts, not_hu={}), checkups=[validation])


def test_nothing_recorded_is_nothing_wrong(facts: RunFacts) -> None:
    dog = Watchdog(facts)
    dog.replay([], [])
    assert (dog.findings, dog.standing) == ([], [])


def test_a_checkup_of_a_run_that_holds_nothing_out_raises_nothing(facts: RunFacts, well: Well, checkup) -> None:
    nothing = {"dice": {}, "near_dice": {}, "partner_dice": {}, "truth_share": {}, "predicted_share": {}, "cases": {}}
    dog = Watchdog(replace(facts, not_hu={}))
    dog.replay([well(step) for step in range(1, 31)], [replace(checkup, step=s, **nothing) for s in (10, 20, 30)])
    assert dog.findings == []


def test_of_many_checkups_all_scores_and_the_last_training_cases_are_held(facts: RunFacts, well: Well, checkup) -> None:
    dog = Watchdog(replace(facts, not_hu={}))
    dog.see(well(1))
    given = [replace(checkup, step=250 * number) for number in range(1, LATEST + 6)]
    for each in given:
        dog.see(each)
    assert [bool(held.training) for held in dog.checkups] == [False] * 5 + [True] * LATEST
    assert [replace(held, training={}) for held in dog.checkups] == [replace(each, training={}) for each in given]


def test_what_a_checkup_showed_stands_until_the_next_one(facts: RunFacts, well: Well, checkup: Checkup) -> None:
    dog = Watchdog(replace(facts, not_hu={}))
    empty = {"dice": {"bone": 0.0}, "present_dice": {"bone": 0.0}, "near_dice": {"bone": 0.0},
             "predicted_share": {"background": 1.0}}  # fmt: skip
    standing = []
    for record in [well(1), replace(checkup, step=250, **empty), well(251), replace(checkup, step=500, **empty),
                   well(510), well(520), replace(checkup, step=750), well(760)]:  # fmt: skip
        dog.see(record)
        standing.append([finding.name for finding in dog.standing])
    assert standing == [[], [], [], *[[ALL_BACKGROUND]] * 3, [], []]
