from collections import Counter

import pytest

from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.sampling.draw import draw
from pipeline.sampling.index import build_index
from pipeline.sampling.statistics import case_shares, count_drawn, dominant_cases

SAMPLE = SampleSection(patch_vox=(4, 4, 4), batch=2)


@pytest.fixture
def index(make_point_case, sided):
    """Twelve cases with left and right, of which the first alone has the middle."""
    cases = [make_point_case({1: (0, 0, 0), 2: (1, 1, 1)}, name=f"case{i}") for i in range(11)]
    first = make_point_case({1: (0, 0, 0), 2: (1, 1, 1), 3: (2, 2, 2)}, name="all")
    return build_index([first, *cases], Head("softmax", sided))


def test_draws_are_counted_by_class_and_classes_not_drawn_have_zero(index, sided):
    draws = [draw(index, SAMPLE, 0, step, slot) for step in range(30) for slot in range(2)]
    counts = count_drawn(draws, sided)
    assert sum(counts.values()) == 30
    assert count_drawn([], sided) == {"left": 0, "right": 0, "middle": 0}


def test_a_case_that_alone_holds_a_class_has_its_share_named(index):
    # half of the slots are positive, a third of them the middle; the rest is spread over 12 cases
    expected = 0.5 * (1 / 3 + 2 / 3 / 12) + 0.5 / 12
    assert dominant_cases(index, SAMPLE) == {"all": pytest.approx(expected)}
    assert sum(case_shares(index, SAMPLE).values()) == pytest.approx(1)


def test_the_expected_share_is_what_is_drawn(index):
    cases = Counter(draw(index, SAMPLE, 0, step, slot).case for step in range(2000) for slot in range(2))
    assert cases["all"] / 4000 == pytest.approx(case_shares(index, SAMPLE)["all"], abs=0.04)


def test_among_few_cases_none_is_named(make_point_case, sided):
    case = make_point_case({1: (0, 0, 0), 2: (1, 1, 1), 3: (2, 2, 2)})
    assert dominant_cases(build_index([case], Head("softmax", sided)), SAMPLE) == {}
