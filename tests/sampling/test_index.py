from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import IGNORE, Labels, Region
from pipeline.sampling.index import build_index, check_sides


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


@pytest.mark.parametrize("name", ["LeftParotid", "kidney_right", "Parotid_L", "LParotid", "lung lower RT"])
def test_mirroring_a_sided_class_without_a_partner_is_refused(name):
    with pytest.raises(UserError, match=f"augment.mirror: x is asked for, .*{name}"):
        check_sides(Labels(values={name: 1, "Mandible": 2}))


def test_sided_classes_in_a_pair_and_words_that_only_sound_sided_may_be_mirrored():
    check_sides(Labels(values={"LeftParotid": 1, "RightParotid": 2}, swap=(("LeftParotid", "RightParotid"),)))
    check_sides(Labels(values={"Bright": 1, "cleft": 2, "lung": 3, "rib": 4}))


def test_sides_do_not_matter_unless_x_is_mirrored(make_point_case):
    labels = Labels(values={"left": 1})
    case = make_point_case({1: (0, 0, 0)})
    assert build_index([case], Head("softmax", labels), mirror=("y", "z")).mirror == ("y", "z")
    with pytest.raises(UserError, match="no pair of labels"):
        build_index([case], Head("softmax", labels), mirror=("x",))
