"""Voxels between the order of a file and closest RAS+ order."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from pipeline.formats.orientation import BLOCK_VOX, closest_ras, copy, in_file_order
from pipeline.volume.grid import Grid
from pipeline.volume.volume import Header

ORIENTATIONS = ["".join(letters) for order in permutations(("RL", "AP", "SI")) for letters in product(*order)]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_file_order_of_closest_ras_is_nibabels_canonical_image(orientation: str) -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(tuple(orientation)), voxels.shape)
    oracle = nib.as_closest_canonical(nib.Nifti1Image(voxels, affine))
    grid, back = closest_ras(Grid(voxels.shape, affine))
    assert grid.shape_vox == oracle.shape
    np.testing.assert_array_equal(grid.affine_mm, oracle.affine)
    ras = np.empty(grid.shape_vox, np.int16)
    view = in_file_order(ras, Header(None, back))
    assert np.shares_memory(view, ras)
    view[...] = voxels
    np.testing.assert_array_equal(ras, np.asanyarray(oracle.dataobj))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), BLOCK_VOX, (65, 17, 130), (33, 9, 65)])
def test_every_voxel_is_copied_whatever_the_memory_orders(shape: tuple[int, int, int]) -> None:
    source = np.random.default_rng(0).integers(0, 1000, shape, np.int16)
    for order in "CF":
        target = np.full(shape[::-1], -1, np.int16, order=order).T[:, ::-1]
        copy(target, source[::-1])
        np.testing.assert_array_equal(target, source[::-1])
