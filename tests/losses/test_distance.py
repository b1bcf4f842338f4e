"""Distances against SciPy's."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from pipeline.losses.distance import distance_to


@settings(max_examples=50)
@given(
    mask=arrays(bool, st.tuples(*[st.integers(1, 7)] * 3)).filter(np.any),
    spacing_mm=st.tuples(*[st.sampled_from([0.5, 1.0, 1.7, 5.0])] * 3),
)
def test_distances_are_those_of_scipy(mask, spacing_mm):
    expected = distance_transform_edt(~mask, sampling=spacing_mm)
    np.testing.assert_allclose(distance_to(torch.from_numpy(mask), spacing_mm), expected, rtol=1e-5)


def test_far_voxels_of_a_large_patch_are_reached():
    mask = torch.zeros(40, 30, 20, dtype=torch.bool)
    mask[0, 0, 0] = mask[39, 29, 0] = True
    expected = distance_transform_edt(~mask.numpy(), sampling=(1, 2, 3))
    np.testing.assert_allclose(distance_to(mask, (1.0, 2.0, 3.0)), expected, rtol=1e-5)


def test_nothing_to_measure_from_is_infinitely_far():
    assert torch.isinf(distance_to(torch.zeros(3, 2, 4, dtype=torch.bool), (2.0, 1.0, 1.0))).all()
