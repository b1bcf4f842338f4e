"""One step's patches: what is promised of them, whatever the case, and by however many ranks they are made."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import IGNORE, Labels
from pipeline.sampling.batch import make_batch, slots_of
from pipeline.sampling.draw import positive_slots
from pipeline.sampling.index import build_index
from pipeline.volume.intensity import Intensity

AUGMENT = AugmentSection(rotation_probability=0.5, scale_probability=0.5, noise_probability=0.5, mirror=("x", "y"))
INTENSITY = Intensity((-200, 400), mean=0.4, std=0.2)
SAMPLE = SampleSection(patch_vox=(12, 10, 8), batch=4)
SEED = 11
ORGAN = Head("softmax", Labels(values={"organ": 1}, ignore=255))


@pytest.fixture(scope="module")
def index(make_case, sided):
    random = np.random.default_rng(0)
    cases = [make_case(random.choice(4, p=(0.97, 0.01, 0.01, 0.01), size=(20, 16, 12)), name=name) for name in "ab"]
    return build_index(cases, Head("softmax", sided), AUGMENT.mirror)


def test_a_batch_has_the_promised_shapes_types_and_positives(index):
    batch = make_batch(index, SAMPLE, AUGMENT, INTENSITY, SEED, 0)
    assert (batch.image.shape, batch.image.dtype) == ((4, 1, 12, 10, 8), torch.float32)
    assert (batch.labels.shape, batch.labels.dtype) == ((4, 12, 10, 8), torch.uint8)
    positive = [batch.labels[slot][drawn.place_vox] == drawn.label for slot, drawn in enumerate(batch.draws)]
    assert positive[:2] == [True, True]
    assert [drawn.label for drawn in batch.draws[2:]] == [None, None]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_ranks_together_make_the_batch_of_one_bit_by_bit(index, ranks):
    whole = make_batch(index, SAMPLE, AUGMENT, INTENSITY, SEED, 3)
    seen = []
    for rank in range(ranks):
        slots = slots_of(SAMPLE.batch, rank, ranks)
        part = make_batch(index, SAMPLE, AUGMENT, INTENSITY, SEED, 3, slots)
        assert torch.equal(part.image, whole.image[list(slots)])
        assert torch.equal(part.labels, whole.labels[list(slots)])
        assert part.draws == tuple(whole.draws[slot] for slot in slots)
        seen += slots
    assert sorted(seen) == [0, 1, 2, 3]


@given(st.integers(1, 8), st.integers(1, 8), st.floats(0, 1))
def test_positives_are_shared_evenly_among_ranks(each, ranks, positive):
    sample = SampleSection(batch=each * ranks, positive=positive)
    of_rank = [
        sum(slot < positive_slots(sample) for slot in slots_of(sample.batch, rank, ranks)) for rank in range(ranks)
    ]
    assert sum(of_rank) == positive_slots(sample)
    assert max(of_rank) - min(of_rank) <= 1


def test_a_batch_that_does_not_divide_among_ranks_is_refused():
    with pytest.raises(UserError, match=r"sample\.batch: 3 patches .* among 2 ranks; take a multiple of 2"):
        slots_of(3, 0, 2)


def organ_at(shape, *voxels):
    encoded = np.zeros(shape, np.uint8)
    for voxel in voxels:
        encoded[voxel] = 1
    return encoded


ODD_CASES = {
    "smaller than the patch": organ_at((5, 4, 3), (2, 2, 1)),
    "of one slice": organ_at((40, 40, 1), (20, 20, 0)),
    "of one voxel": organ_at((1, 1, 1), (0, 0, 0)),
    "with its label in two corners": organ_at((20, 20, 20), (0, 0, 0), (19, 19, 19)),
    "all foreground": np.ones((20, 20, 20), np.uint8),
    "ignored but for its label": np.where(organ_at((20, 20, 20), (3, 4, 5)) == 1, 1, IGNORE).astype(np.uint8),
}


@pytest.mark.parametrize("preset", ["none", "light", "default"])
@pytest.mark.parametrize("kind", ODD_CASES)
def test_odd_cases_give_their_positives(make_case, kind, preset):
    augment = AugmentSection(preset=preset, rotation_probability=0.5, scale_probability=0.5, mirror=("z",))
    index = build_index([make_case(ODD_CASES[kind], spacing_mm=(1.0, 1.0, 3.0))], ORGAN, augment.mirror)
    for step in range(5):
        batch = make_batch(index, SAMPLE, augment, INTENSITY, SEED, step)
        assert torch.isfinite(batch.image).all()
        found = [int(batch.labels[slot][drawn.place_vox]) for slot, drawn in enumerate(batch.draws)]
        assert found[:2] == [1, 1]
        assert IGNORE not in found


def test_a_case_all_ignored_is_never_drawn_beside_others(make_case):
    empty = make_case(np.full((9, 9, 9), IGNORE, np.uint8), name="ignored")
    other = make_case(organ_at((9, 9, 9), (4, 4, 4)), name="annotated")
    index = build_index([empty, other], ORGAN)
    cases = {drawn.case for step in range(20) for drawn in make_batch(index, SAMPLE, AUGMENT, INTENSITY, 0, step).draws}
    assert cases == {"annotated"}


def test_a_class_in_one_case_only_is_drawn_from_it_as_often_as_others(make_case, sided):
    encoded = organ_at((9, 9, 9), (4, 4, 4), (1, 1, 1))
    cases = [make_case(encoded * factor, name=name) for name, factor in (("a", 1), ("b", 2), ("c", 2), ("only", 3))]
    index = build_index(cases, Head("softmax", sided), ("x",))
    draws = [d for step in range(150) for d in make_batch(index, SAMPLE, AUGMENT, INTENSITY, 0, step).draws[:2]]
    middle = [drawn.case for drawn in draws if drawn.label == 3]
    assert set(middle) == {"only"}
    assert abs(len(middle) - 100) < 5 * np.sqrt(300 * 2 / 9)  # five standard deviations


@pytest.mark.slow
def test_one_voxel_targets_are_met_in_10000_batches_with_every_transform_on(make_case):
    index = build_index([make_case(organ_at((30, 20, 9), (7, 11, 2)), spacing_mm=(0.8, 0.9, 4.0))], ORGAN, ("x", "z"))
    always = {key: 1.0 for key in AugmentSection.model_fields if key.endswith("_probability")}
    augment = AugmentSection(mirror=("x", "z"), **always)
    sample = SampleSection(patch_vox=(12, 10, 8), batch=2, positive=1.0)
    for step in range(10_000):
        batch = make_batch(index, sample, augment, INTENSITY, SEED, step)
        assert [int(batch.labels[slot][drawn.place_vox]) for slot, drawn in enumerate(batch.draws)] == [1, 1]


class Broken:
    """A case whose disk fails, or whose arrays are not what they were."""

    def __init__(self, case, error):
        self.case, self.error = case, error

    def __getattr__(self, name):
        return getattr(self.case, name)

    def read(self, start_vox, shape_vox):
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ValueError("strange"), RuntimeError, r"^patch of a, \(seed, step, slot\) \(11, 5, 1\): ValueError: strange$"),
        (OSError(5, "x", "image.npy"), UserError, r"^patch of a, .* image\.npy: input/output error; check the disk"),
        (UserError("image.npy: cut short."), UserError, r"^image\.npy: cut short\.$"),
    ],
)
def test_an_error_names_patch_and_case(index, error, kind, words):
    broken = replace(index, cases={name: Broken(case, error) for name, case in index.cases.items()})
    slots = [slot for slot, drawn in enumerate(make_batch(index, SAMPLE, AUGMENT, INTENSITY, SEED, 5).draws)
             if drawn.case == "a"]  # fmt: skip
    with pytest.raises(kind, match=words.replace("5, 1", f"5, {slots[0]}")):
        make_batch(broken, SAMPLE, AUGMENT, INTENSITY, SEED, 5, slots)


def test_what_is_in_hand_is_told_patch_by_patch(index):
    told = []
    batch = make_batch(index, SAMPLE, AUGMENT, INTENSITY, SEED, 0, tell=told.append)
    assert told == [item for drawn in batch.draws for item in (drawn, None)]
