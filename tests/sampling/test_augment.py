import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.sampling.augment import change_intensity, make_patch
from pipeline.sampling.draw import Draw, draw
from pipeline.sampling.index import build_index
from pipeline.volume.intensity import Intensity

PATCH = (9, 8, 7)
SHAPE = (12, 10, 8)
INTENSITY = Intensity((-200, 400), gamma=0.8, mean=0.4, std=0.2)
ALWAYS = AugmentSection(
    rotation_deg=180, rotation_probability=1, scale=(0.5, 2), scale_probability=1, mirror=("x", "y", "z"),
    gamma_probability=1, brightness_probability=1, contrast_probability=1, noise_probability=1,
)  # fmt: skip
NONE = AugmentSection(preset="none")
voxels = st.tuples(*(st.sampled_from((0, 1, size // 2, size - 1)) for size in SHAPE))


def only(name, value):
    return NONE.model_copy(update={name: value, f"{name}_probability": 1.0})


@settings(max_examples=60, deadline=None)
@given(st.lists(voxels, min_size=3, max_size=3, unique=True), st.integers(0, 2**32 - 1), st.booleans())
def test_every_positive_patch_holds_its_class_even_of_one_voxel_at_a_border(
    make_point_case, sided, points, seed, everything
):
    case = make_point_case(dict(enumerate(points, 1)), shape=SHAPE, spacing_mm=(1.0, 1.3, 4.0))
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
    off = {f"{name}_probability": 0.0 for name in ("gamma", "brightness", "contrast", "noise")}
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


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        (only("brightness", (2.0, 2.0)), [0.0, 0.4, 1.0]),
        (only("contrast", (2.0, 2.0)), [0.0, 0.1, 1.0]),  # about the mean 0.3: -0.3, 0.1 and 1.1, clipped
        (only("gamma", (2.0, 2.0)), [0.0, 0.04, 0.49]),
    ],
)
def test_brightness_contrast_and_gamma_do_what_they_say(augment, expected):
    scaled = np.array([0.0, 0.2, 0.7], np.float32)
    changed = change_intensity(scaled, augment, np.random.default_rng(0))
    np.testing.assert_allclose(changed, expected, atol=1e-6)
    assert changed.dtype == np.float32
    assert scaled.tolist() == pytest.approx([0.0, 0.2, 0.7])


def test_noise_is_centred_with_a_deviation_up_to_the_largest():
    scaled = np.full((40, 40, 40), 0.5, np.float32)
    augment = NONE.model_copy(update={"noise_std": 0.08, "noise_probability": 1.0})
    deviations = []
    for seed in range(20):
        noise = change_intensity(scaled, augment, np.random.default_rng(seed)) - scaled
        deviations.append(noise.std())
        assert abs(noise.mean()) < 5 * 0.08 / 40**1.5
    assert 0.05 < max(deviations) < 0.081
    assert min(deviations) < 0.03


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_changed_intensities_stay_in_the_window(seed):
    random = np.random.default_rng(seed)
    changed = change_intensity(random.random((5, 5, 5), np.float32), ALWAYS, random)
    assert changed.min() >= 0
    assert changed.max() <= 1
