import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.sampling.augment import make_patch
from pipeline.sampling.draw import Draw, draw
from pipeline.sampling.index import build_index
from pipeline.volume.intensity import Intensity

PATCH = (9, 8, 7)
SHAPE = (12, 10, 8)
INTENSITY = Intensity((-200, 400), gamma=0.8, mean=0.4, std=0.2)
INTENSITIES = ("noise", "blur", "low_resolution", "brightness", "contrast", "gamma_inverted", "gamma")
ALWAYS = AugmentSection(
    rotation_deg=180, scale=(0.5, 2), elastic_spacing_mm=5.0, elastic_mm=2.0, mirror=("x", "y", "z"),
    **{f"{name}_probability": 1.0 for name in ("rotation", "scale", "elastic", *INTENSITIES)},
)  # fmt: skip
NONE = AugmentSection(preset="none")
voxels = st.tuples(*(st.sampled_from((0, 1, size // 2, size - 1)) for size in SHAPE))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(voxels, min_size=3, max_size=3, unique=True),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from((1.5, 4.0)),
)
def test_every_positive_patch_holds_its_class_even_of_one_voxel_at_a_border(
    make_point_case, sided, points, seed, everything, slice_mm
):
    case = make_point_case(dict(enumerate(points, 1)), shape=SHAPE, spacing_mm=(1.0, 1.3, slice_mm))
    augment = ALWAYS if everything else AugmentSection(mirror=("x", "y", "z"))
    index = build_index([case], Head("softmax", sided), augment.mirror)
    sample = SampleSection(patch_vox=PATCH, batch=3, positive=1.0)
    for slot in range(3):
        drawn = draw(index, sample, seed, 0, slot)
        image, labels = make_patch(case, drawn, PATCH, augment, INTENSITY, sided)
        assert labels[drawn.place_vox] == drawn.label
        assert np.isfinite(image).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_intensity_changes_leave_labels_alone(make_case, sided, seed):
    case = make_case(np.random.default_rng(0).integers(0, 4, SHAPE))
    index = build_index([case], Head("softmax", sided), ALWAYS.mirror)
    drawn = draw(index, SampleSection(patch_vox=PATCH), seed, 0, 0)
    off = {f"{name}_probability": 0.0 for name in INTENSITIES}
    image, labels = make_patch(case, drawn, PATCH, ALWAYS, INTENSITY, sided)
    plain, same = make_patch(case, drawn, PATCH, ALWAYS.model_copy(update=off), INTENSITY, sided)
    np.testing.assert_array_equal(labels, same)
    assert not np.array_equal(image, plain)


def test_without_augmentation_a_patch_is_the_windowed_crop(make_case, sided):
    case = make_case(np.random.default_rng(0).integers(0, 4, SHAPE))
    drawn = Draw("case", None, (0, 5, 5), (3, 3, 3), (False, False, False), (0, 0, 1))
    image, labels = make_patch(case, drawn, PATCH, NONE, INTENSITY, sided)
    hu, expected = case.read((-3, 2, 2), PATCH)
    np.testing.assert_array_equal(image, INTENSITY.apply(hu))
    np.testing.assert_array_equal(labels, expected)
    assert image[0, 0, 0] == INTENSITY.air()
    assert (image.dtype, labels.dtype) == (np.float32, np.uint8)


def test_mirrored_on_x_left_and_right_exchange_and_the_rest_stays(make_case, sided):
    encoded = np.zeros((4, 1, 1), np.uint8)
    encoded[:, 0, 0] = [1, 2, 3, 255]
    drawn = Draw("case", 1, (1, 0, 0), (2, 0, 0), (True, False, False), (0, 0, 0))
    _, labels = make_patch(make_case(encoded), drawn, (4, 1, 1), NONE, INTENSITY, sided)
    assert labels.ravel().tolist() == [255, 3, 1, 2]


def test_a_patch_without_the_promised_label_is_an_internal_error_that_gives_the_key(make_point_case, sided):
    case = make_point_case({1: (5, 5, 5)})
    drawn = Draw("case", 1, (5, 5, 4), (3, 3, 3), (False, False, False), (8, 42, 0))
    with pytest.raises(RuntimeError, match=r"\(8, 42, 0\): label 1 was promised .* label 0 is there"):
        make_patch(case, drawn, PATCH, NONE, INTENSITY, sided)
