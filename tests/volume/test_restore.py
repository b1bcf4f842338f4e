"""Logits brought back to the CT's grid."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.volume.grid import Grid
from pipeline.volume.restore import restore_slabs

CT = Grid((21, 18, 11), np.diag([1.0, 1.5, 2.5, 1]))


@pytest.mark.parametrize("slab", [1, 4, 16, 50])
@pytest.mark.parametrize("crop", [((0, 0, 0), (21, 18, 11)), ((5, 3, 2), (9, 10, 6))])
def test_slabs_make_up_scipys_linear_interpolation_clamped_at_the_edges(slab: int, crop: tuple) -> None:
    source = CT.crop(*crop).at_spacing((2, 2, 2))
    logits = np.random.default_rng(0).normal(size=(3, *source.shape_vox)).astype(np.float32)
    restored = np.full((3, *CT.shape_vox), np.nan, np.float32)
    for rows, part in restore_slabs(logits, source, CT, slab):
        assert part.shape[1] <= slab and part.dtype == np.float32
        restored[:, rows] = part
    scale, offset = CT.mapping_to(source)
    points = np.indices(CT.shape_vox) * scale[:, None, None, None] + offset[:, None, None, None]
    for channel in range(3):
        expected = ndimage.map_coordinates(logits[channel], points, order=1, mode="nearest")
        np.testing.assert_allclose(restored[channel], expected, atol=1e-5)


def test_the_same_grid_gives_the_same_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(2, *CT.shape_vox)).astype(np.float32)
    parts = [part for _, part in restore_slabs(logits, CT, CT)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), logits)
