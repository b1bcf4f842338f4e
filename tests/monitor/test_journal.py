"""What a run writes down of its health, and reads again."""

from collections.abc import Callable
from math import inf, isnan, nan
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.journal import CHECKUPS, FACTS, VITALS, Journal, read_facts, read_records
from pipeline.monitor.vitals import Vitals

Well = Callable[..., Vitals]


def test_records_and_facts_come_back_as_they_were(tmp_path: Path, facts: RunFacts, well: Well, checkup) -> None:
    journal = Journal(tmp_path, facts)
    given = [well(1), well(2, predicted={}, dice={}, image_std=None, update_share=None), well(3, strange_labels=(0.5,))]
    for record in (*given, checkup):
        journal.add(record)
    assert read_records(tmp_path) == (given, [checkup])
    assert read_facts(tmp_path) == facts


def test_numbers_that_are_not_finite_survive(tmp_path: Path, facts: RunFacts, well: Well) -> None:
    Journal(tmp_path, facts).add(well(1, loss=nan, grad_norm=inf, logits_min=-inf, losses=(nan, inf)))
    (back,) = read_records(tmp_path).vitals
    assert isnan(back.loss) and isnan(back.losses[0])
    assert (back.grad_norm, back.logits_min, back.losses[1]) == (inf, -inf, inf)


def test_what_came_after_the_saved_step_is_dropped(tmp_path: Path, facts: RunFacts, well: Well, checkup) -> None:
    first = Journal(tmp_path, facts)
    for record in (well(200), checkup, well(260)):
        first.add(record)
    Journal(tmp_path, facts, after_step=250).add(well(251))
    records = read_records(tmp_path)
    assert ([vitals.step for vitals in records.vitals], records.checkups) == ([200, 251], [checkup])
    Journal(tmp_path, facts)  # an attempt that ended before it saved a state leaves nothing
    assert read_records(tmp_path) == ([], [])


@pytest.mark.parametrize("torn", ['{"step": 2, "lo', "\0\0\0\0\n", '{"step": 2}'])
def test_a_torn_last_line_is_ignored_and_gone_after_a_resume(
    tmp_path: Path, facts: RunFacts, well: Well, torn: str
) -> None:
    Journal(tmp_path, facts).add(well(1))
    with (tmp_path / VITALS).open("a") as file:
        file.write(torn)
    assert [vitals.step for vitals in read_records(tmp_path).vitals] == [1]
    Journal(tmp_path, facts, after_step=1).add(well(2))
    assert [vitals.step for vitals in read_records(tmp_path).vitals] == [1, 2]


def test_a_run_that_has_just_begun_has_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path) == ([], [])


def test_a_run_of_an_earlier_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no health\.json.*earlier version.*expected the folder of a training"):
        read_facts(tmp_path)


def test_records_of_another_version_are_refused_with_their_file(tmp_path: Path, facts: RunFacts) -> None:
    Journal(tmp_path, facts)
    for name in (VITALS, CHECKUPS):
        (tmp_path / name).write_text('{"step": 1, "pulse": 70}\n')
        with pytest.raises(UserError, match=rf"{name}: cannot be read .*another version.*train again"):
            read_records(tmp_path)
        (tmp_path / name).unlink()
    write_json(tmp_path / FACTS, {"pulse": 70, **read_json(tmp_path / FACTS)})
    with pytest.raises(UserError, match=r"health\.json: cannot be read .*pulse"):
        read_facts(tmp_path)
