"""Only the largest object of a class stays, where that is asked for."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.errors import UserError
from pipeline.inference.postprocess import keep_largest
from pipeline.labels import Labels


def two_objects() -> np.ndarray:
    encoded = np.zeros((12, 6, 6), np.uint8)
    encoded[0:2, 0:2, 0:2] = 1
    encoded[5:8, 0:3, 0:3] = 1
    encoded[0, 5, 5] = 2
    encoded[10:12, 4:6, 4:6] = 2
    return encoded


def test_the_smaller_object_of_a_class_becomes_background_and_other_classes_stay() -> None:
    encoded = two_objects()
    keep_largest(encoded, [1])
    assert (encoded == 1).sum() == 27 and (encoded == 2).sum() == 9
    keep_largest(encoded, [1, 2])
    assert (encoded == 2).sum() == 8


def test_objects_that_touch_at_a_corner_are_one() -> None:
    encoded = np.zeros((4, 4, 4), np.uint8)
    encoded[0, 0, 0] = encoded[1, 1, 1] = encoded[2, 2, 2] = 3
    keep_largest(encoded, [3])
    assert (encoded == 3).sum() == 3


def test_what_is_kept_is_the_largest_object_of_scipy() -> None:
    encoded = (np.random.default_rng(0).random((20, 20, 20)) < 0.12).astype(np.uint8)
    objects, count = ndimage.label(encoded, np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(encoded, objects, range(1, count + 1))
    keep_largest(encoded, [1])
    assert encoded.sum() == sizes.max()


def test_a_class_that_does_not_occur_changes_nothing() -> None:
    encoded = two_objects()
    keep_largest(encoded, [4])
    np.testing.assert_array_equal(encoded, two_objects())


def test_names_become_indices_or_are_refused_by_key() -> None:
    labels = Labels({"liver": (7,), "spleen": (3,)})
    assert labels.indices_of("all", "infer.keep_largest") == [1, 2]
    assert labels.indices_of(["spleen"], "infer.keep_largest") == [2]
    with pytest.raises(UserError, match=r"infer\.keep_largest: liverr is no class"):
        labels.indices_of(["liverr"], "infer.keep_largest")
