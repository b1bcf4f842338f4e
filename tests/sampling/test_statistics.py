import json
from collections import Counter

import pytest

from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.sampling.draw import draw
from pipeline.sampling.index import build_index
from pipeline.sampling.statistics import Tally, case_shares, count_drawn, dominant_cases

SAMPLE = SampleSection(patch_vox=(4, 4, 4), batch=2)


@pytest.fixture
def index(make_point_case, sided):
    """Twelve cases with left and right, of which the first alone has the middle."""
    cases = [make_point_case({1: (0, 0, 0), 2: (1, 1, 1)}, name=f"case{i}") for i in range(11)]
    first = make_point_case({1: (0, 0, 0), 2: (1, 1, 1), 3: (2, 2, 2)}, name="all")
    return build_index([first, *cases], Head("softmax", sided))


def test_draws_are_counted_by_class_and_classes_not_drawn_have_zero(index, sided):
    draws = [draw(index, SAMPLE, 0, step, slot) for step in range(30) for slot in range(2)]
    counts = count_drawn((drawn.label for drawn in draws), sided)
    assert sum(counts.values()) == 30
    assert count_drawn([], sided) == {"left": 0, "right": 0, "middle": 0}


def test_a_case_that_alone_holds_a_class_has_its_share_named(index):
    # half of the slots are positive, a third of them the middle; the rest is spread over 12 cases
    expected = 0.5 * (1 / 3 + 2 / 3 / 12) + 0.5 / 12
    assert dominant_cases(case_shares(index, SAMPLE)) == {"all": pytest.approx(expected)}
    assert sum(case_shares(index, SAMPLE).values()) == pytest.approx(1)


def test_the_expected_share_is_what_is_drawn(index):
    cases = Counter(draw(index, SAMPLE, 0, step, slot).case for step in range(2000) for slot in range(2))
    assert cases["all"] / 4000 == pytest.approx(case_shares(index, SAMPLE)["all"], abs=0.04)


def test_among_few_cases_none_is_named():
    assert dominant_cases(dict.fromkeys("abcdefghij", 0.1) | {"a": 0.5}) == {}


def test_a_tally_gives_shares_of_positives_by_class_and_of_all_patches_by_case():
    tally = Tally(("left", "right", "middle"), ("a", "b", "c"), since_step=5)
    assert (tally.class_shares(), tally.case_shares()) == ({}, {})
    tally.add({"left": 1, "right": 0, "middle": 2}, ("b", "b", "a", "b"))
    tally.add({"left": 1, "right": 0, "middle": 0}, ("c", "b", "a", "b"))
    assert tally.class_shares() == {"left": 0.5, "right": 0.0, "middle": 0.5}
    assert list(tally.case_shares().items()) == [("b", 5 / 8), ("a", 2 / 8), ("c", 1 / 8)]
    assert tally.since_step == 5


def test_a_tally_goes_on_from_what_was_saved():
    tally = Tally(("left",), ("a", "b"), since_step=3)
    tally.add({"left": 2}, ("a", "a", "b"))
    again = Tally.from_json(json.loads(json.dumps(tally.to_json())))
    again.add({"left": 1}, ("b",))
    assert (again.by_class, again.by_case, again.since_step) == ({"left": 3}, {"a": 2, "b": 2}, 3)
    assert tally.by_case == {"a": 2, "b": 1}
