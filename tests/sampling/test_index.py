from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import IGNORE, Region
from pipeline.sampling.index import build_index
from pipeline.store.reader import PreparedCase


@pytest.fixture
def cases(make_point_case):
    return [
        make_point_case({1: (0, 0, 0), 3: (1, 1, 1)}, name="a"),
        make_point_case({2: (0, 0, 0)}, name="b"),
        make_point_case({1: (0, 0, 0), 2: (2, 2, 2)}, name="c"),
    ]


def test_each_channel_has_the_cases_that_hold_its_class(cases, sided):
    index = build_index(cases, Head("softmax", sided))
    assert [source.cases for source in index.sources] == [("a", "c"), ("b", "c"), ("a",)]


def test_mirrored_on_x_the_swap_partner_supplies_a_class(cases, sided):
    index = build_index(cases, Head("softmax", sided), mirror=("x",))
    assert [source.classes for source in index.mirrored_sources] == [(2,), (1,), (3,)]
    assert [source.cases for source in index.mirrored_sources] == [("b", "c"), ("a", "c"), ("a",)]


def test_a_region_takes_any_class_of_its_union(cases, sided):
    both = Region("both", classes=("left", "right"), write="left")
    middle = Region("middle", classes=("middle",), write="middle")
    index = build_index(cases, Head("regions", replace(sided, regions=(both, middle))))
    assert [source.cases for source in index.sources] == [("a", "b", "c"), ("a",)]


def test_a_class_without_a_case_is_named(cases, sided):
    with pytest.raises(UserError, match=r"none of the 2 training cases has a voxel to draw for middle;"):
        build_index(cases[1:], Head("softmax", sided))


def test_no_case_at_all_is_refused(sided):
    with pytest.raises(UserError, match="no prepared case"):
        build_index([], Head("softmax", sided))


def test_a_case_of_ignored_voxels_alone_cannot_anchor(cases, sided, make_case):
    ignored = make_case(np.full((3, 3, 3), IGNORE), name="ignored")
    index = build_index([*cases, ignored], Head("softmax", sided))
    assert index.annotated == ("a", "b", "c")


def test_in_the_mirror_a_region_needs_a_case_with_its_partner(make_point_case, sided):
    head = Head("regions", replace(sided, regions=(Region("one side", classes=("left",), write="left"),)))
    case = make_point_case({1: (0, 0, 0)})
    assert build_index([case], head, mirror=("y", "z")).sources[0].cases == ("case",)
    with pytest.raises(UserError, match="one side"):
        build_index([case], head, mirror=("x",))


def test_what_a_worker_is_sent_of_each_case_is_small(store, sided):
    cases = [replace(PreparedCase.open(store / "a"), name=f"case{number}") for number in range(101)]
    one, many = (ForkingPickler.dumps(build_index(cases[:count], Head("softmax", sided))) for count in (1, 101))
    assert (len(many) - len(one)) / 100 < 8_000
