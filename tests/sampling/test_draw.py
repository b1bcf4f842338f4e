from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.labels import IGNORE, Labels, Region
from pipeline.sampling.draw import draw, positive_slots
from pipeline.sampling.index import build_index

SAMPLE = SampleSection(patch_vox=(8, 6, 5), batch=2)


@pytest.fixture(scope="module")
def index(make_point_case, sided):
    cases = [
        make_point_case({1: (0, 0, 0), 3: (1, 1, 1)}, name="a"),
        make_point_case({2: (4, 0, 7)}, name="b"),
        make_point_case({1: (11, 9, 7), 2: (2, 2, 2)}, name="c"),
    ]
    return build_index(cases, Head("softmax", sided), mirror=("x", "z"))


@pytest.mark.parametrize(
    ("positive", "batch", "expected"),
    [(0.5, 2, 1), (0.5, 3, 2), (0.0, 4, 1), (1.0, 4, 4), (0.1, 30, 3), (0.34, 3, 2), (0.5, 1, 1)],
)
def test_positive_slots_are_the_share_rounded_up_and_at_least_one(positive, batch, expected):
    assert positive_slots(SampleSection(positive=positive, batch=batch)) == expected


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 10**9), st.integers(0, 1))
def test_the_same_key_gives_the_same_draw_whatever_was_drawn_before(index, seed, step, slot):
    first = draw(index, SAMPLE, seed, step, slot)
    draw(index, SAMPLE, seed, step + 1, slot)
    assert draw(index, SAMPLE, seed, step, slot) == first
    assert first.key == (seed, step, slot)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_a_positive_voxel_has_the_class_that_the_mirror_turns_into_the_label(index, step):
    drawn = draw(index, SAMPLE, 0, step, 0)
    stored = index.cases[drawn.case].encoded[drawn.voxel]
    assert stored == (index.labels.swapped(drawn.label) if drawn.mirror[0] else drawn.label)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 1))
def test_the_place_lies_in_the_central_half_and_mirrors_are_those_asked_for(index, step, slot):
    drawn = draw(index, SAMPLE, 0, step, slot)
    central = (range(2, 6), range(1, 5), range(1, 4))
    assert all(place in positions for place, positions in zip(drawn.place_vox, central, strict=True))
    assert not drawn.mirror[1]


def test_classes_cases_and_mirrors_come_equally_often(index):
    draws = [draw(index, SAMPLE, 7, step, 0) for step in range(3000)]
    by_class = Counter(drawn.label for drawn in draws)
    assert sorted(by_class) == [1, 2, 3]
    assert all(abs(count - 1000) < 130 for count in by_class.values())  # 5 standard deviations
    left_as_it_is = Counter(drawn.case for drawn in draws if drawn.label == 1 and not drawn.mirror[0])
    assert abs(left_as_it_is["a"] - left_as_it_is["c"]) < 5 * np.sqrt(sum(left_as_it_is.values()))
    assert abs(sum(drawn.mirror[0] for drawn in draws) - 1500) < 140


def test_seeds_steps_and_slots_draw_differently(index):
    sample = SampleSection(patch_vox=(96, 96, 96), batch=4, positive=1.0)
    places = {draw(index, sample, *key).place_vox for key in np.ndindex(4, 4, 4)}
    assert len(places) > 60


def test_a_region_draws_every_class_of_its_union(make_point_case, sided):
    case = make_point_case({1: (0, 0, 0), 2: (2, 2, 2), 3: (5, 5, 5)})
    union = replace(sided, regions=(Region("union", classes=("left", "middle"), write="left"),))
    index = build_index([case], Head("regions", union))
    assert Counter(draw(index, SAMPLE, 0, step, 0).label for step in range(200)).keys() == {1, 3}


def test_other_slots_are_anchored_anywhere_in_a_case_and_promise_nothing(index):
    draws = [draw(index, SAMPLE, 0, step, 1) for step in range(500)]
    assert {drawn.label for drawn in draws} == {None}
    assert {drawn.case for drawn in draws} == {"a", "b", "c"}
    assert [{drawn.voxel[axis] for drawn in draws} for axis in range(3)] == [set(range(n)) for n in (12, 10, 8)]


@pytest.mark.parametrize("annotated", [1, 100])
def test_other_slots_never_lie_on_an_ignored_voxel(make_case, annotated):
    encoded = np.full((10, 10, 10), IGNORE, np.uint8)
    encoded.ravel()[:annotated] = 1
    index = build_index([make_case(encoded)], Head("softmax", Labels(values={"organ": 1}, ignore=255)))
    voxels = {draw(index, SAMPLE, 0, step, 1).voxel for step in range(30)}
    assert all(encoded[voxel] == 1 for voxel in voxels)
