"""What a run writes down of its health, and reads again."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from math import inf, isnan, nan
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.monitor.checkup import Checkup, TrainingCase
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.journal import CHECKUPS, FACTS, VITALS, Journal, read_facts, read_journal, read_records
from pipeline.monitor.symptoms.cases import worst_cases
from pipeline.monitor.symptoms.data import LABELS_OUTSIDE
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.symptoms.validation import SWAPPED
from pipeline.monitor.symptoms.window import LATEST
from pipeline.monitor.vitals import Vitals
from pipeline.monitor.watchdog import Watchdog

Well = Callable[..., Vitals]


def test_records_and_facts_come_back_as_they_were(tmp_path: Path, facts: RunFacts, well: Well, checkup) -> None:
    journal = Journal(tmp_path, facts)
    kept = {"drawn": {"bone": 1}, "predicted": {}, "dice": {}}
    given = [
        well(1, **kept),
        well(2, **kept, image_std=None, update_share=None),
        well(3, **kept, strange_labels=(0.5,)),
    ]
    for record in (*given, checkup):
        journal.add(record)
    assert read_records(tmp_path) == (given, [checkup])
    assert read_facts(tmp_path) == facts


def test_vitals_take_the_same_room_whatever_the_number_of_classes(tmp_path: Path, facts: RunFacts, well: Well) -> None:
    names = [f"structure {number}" for number in range(117)]
    shares = dict.fromkeys(names, 1 / 117)
    drawn = {**dict.fromkeys(names, 0), "structure 4": 1}
    Journal(tmp_path, facts).add(well(1, drawn=drawn, predicted=shares, dice=shares))
    assert len((tmp_path / VITALS).read_bytes()) < 1000  # 10,000 of them, of 100,000 steps, stay below 10 MB
    (back,) = read_records(tmp_path).vitals
    assert back.drawn == {"structure 4": 1}


def test_vitals_with_figures_by_class_as_an_earlier_version_wrote_them_are_read(
    tmp_path: Path, facts: RunFacts, well: Well
) -> None:
    Journal(tmp_path, facts)
    (tmp_path / VITALS).write_text(json.dumps(asdict(well(1))) + "\n")
    assert read_records(tmp_path).vitals == [well(1)]


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


def test_lines_that_cannot_be_read_are_named_and_the_others_are_read(
    tmp_path: Path, facts: RunFacts, well: Well, checkup: Checkup
) -> None:
    journal = Journal(tmp_path, facts)
    for record in (well(1), well(2), well(3), checkup):
        journal.add(record)
    for name in (VITALS, CHECKUPS):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 4, "pulse": 70}\n\0\0\n{"step": "x"}\n')
    read = read_journal(tmp_path)
    assert [vitals.step for vitals in read.records.vitals] == [1, 2, 3] and read.records.checkups == [checkup]
    assert [sentence.partition("(")[0] for sentence in read.damage] == [
        f"{tmp_path / VITALS}: lines 4, 5, 6 of 6 cannot be read ",
        f"{tmp_path / CHECKUPS}: lines 2, 3, 4 of 4 cannot be read ",
    ]


def test_a_resumed_run_keeps_a_damaged_file_and_goes_on_with_what_can_be_read(
    tmp_path: Path, facts: RunFacts, well: Well, caplog: pytest.LogCaptureFixture
) -> None:
    Journal(tmp_path, facts).add(well(1))
    with (tmp_path / VITALS).open("a") as file:
        file.write('{"step": 2, "pulse": 70}\n')
    damaged = (tmp_path / VITALS).read_text()
    Journal(tmp_path, facts, after_step=2).add(well(3))
    assert [vitals.step for vitals in read_records(tmp_path).vitals] == [1, 3]
    (aside,) = tmp_path.glob("vitals-before-*.jsonl")
    assert aside.read_text() == damaged
    assert "line 2 of 2 cannot be read (KeyError: 'cases')" in caplog.text and aside.name in caplog.text


@pytest.mark.parametrize("text", ['{"pulse": 70}', "{", "[]", ""])
def test_facts_that_cannot_be_read_are_refused_with_their_file(tmp_path: Path, text: str) -> None:
    (tmp_path / FACTS).write_text(text)
    with pytest.raises(UserError, match=r"health\.json: cannot be read .*damaged, or another version"):
        read_facts(tmp_path)


def test_what_was_found_comes_back_up_to_the_saved_step(tmp_path: Path, facts: RunFacts) -> None:
    journal = Journal(tmp_path, facts)
    early, late = Finding("a", "b", "c"), Finding("d", "e", "f", fatal=False)
    journal.note(10, [early])
    journal.note(20, [late])
    assert read_journal(tmp_path).noticed == [(10, early), (20, late)]
    Journal(tmp_path, facts, after_step=19)
    assert read_journal(tmp_path).noticed == [(10, early)]


def noticed_in(folder: Path) -> list[tuple[int, str]]:
    return [(step, finding.name) for step, finding in read_journal(folder).noticed]


def test_what_a_validation_found_that_is_made_again_stands_once(tmp_path: Path, facts: RunFacts, well: Well) -> None:
    """The state of step 20 was saved, then its validation was written, and the process killed before it saved again.

    Strange labels are found by the vitals of step 20, and stand; swapped sides by its validation, and are found again.
    """
    sided = replace(facts, partners={"bone": "gland", "gland": "bone"}, not_hu={})
    dice, swapped = {"bone": 0.1, "gland": 0.1}, {"bone": 0.8, "gland": 0.8}
    here = {"background": 0.5, "bone": 0.25, "gland": 0.25}
    first, second = (Checkup(step, dice, dice, swapped, here, here, {}, {}, {}, present_dice=dice) for step in (10, 20))

    def note(journal: Journal, dog: Watchdog, record: Vitals | Checkup) -> None:
        journal.add(record)
        journal.note(record.step, dog.see(record))

    journal, dog = Journal(tmp_path, sided), Watchdog(sided)
    for record in (well(10), first, well(20, strange_labels=(7.0,)), second):
        note(journal, dog, record)
    expected = [(20, LABELS_OUTSIDE), (20, SWAPPED)]
    assert noticed_in(tmp_path) == expected
    resumed, dog = Journal(tmp_path, sided, after_step=20, after_checkup=19), Watchdog(sided)
    assert noticed_in(tmp_path) == expected[:1]
    dog.replay(*read_records(tmp_path))
    note(resumed, dog, second)
    assert noticed_in(tmp_path) == expected


def test_checkups_stay_small_and_look_the_same(tmp_path: Path, facts: RunFacts, checkup: Checkup) -> None:
    training = {f"case{number}": TrainingCase(8, 1.0 + number, 0.5, 4) for number in range(200)}
    given = [replace(checkup, step=step, training=training) for step in range(1, 5 * LATEST)]
    journal = Journal(tmp_path, facts)
    for each in given:
        journal.add(each)
    kept = read_records(tmp_path).checkups
    assert [replace(each, training={}) for each in kept] == [replace(each, training={}) for each in given]
    assert LATEST <= sum(bool(each.training) for each in kept) < 2 * LATEST
    assert worst_cases(kept) == worst_cases(given)
    Journal(tmp_path, facts, after_step=given[-1].step)
    assert [bool(each.training) for each in read_records(tmp_path).checkups].count(True) == LATEST
    assert worst_cases(read_records(tmp_path).checkups, by="dice") == worst_cases(given, by="dice")
