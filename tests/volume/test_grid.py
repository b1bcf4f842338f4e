"""Grids: sizes, crops, and the mapping between two of them."""

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.volume.grid import Grid


def oblique(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    """A grid turned by 30 degrees about z."""
    turn = np.array([[np.cos(0.5), -np.sin(0.5), 0], [np.sin(0.5), np.cos(0.5), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = (10, -20, 30)
    return Grid(shape, affine)


def test_spacing_is_the_length_of_the_affine_columns() -> None:
    assert oblique((4, 5, 6), (1, 2, 3)).spacing_mm == pytest.approx((1, 2, 3))


def test_training_grid_has_exactly_the_asked_spacing_and_the_same_centre() -> None:
    source = oblique((10, 11, 12), (1, 2, 3))
    target = source.at_spacing((1.5, 1.5, 7))
    assert target.spacing_mm == pytest.approx((1.5, 1.5, 7), abs=1e-12)
    assert target.shape_vox == (7, 15, 6)  # ceil of 10 / 1.5, 22 / 1.5, 36 / 7
    centres = [grid.to_mm((np.array(grid.shape_vox) - 1) / 2) for grid in (source, target)]
    np.testing.assert_allclose(*centres, atol=1e-9)


def test_a_hundredth_of_a_voxel_too_much_adds_no_voxel_and_no_axis_vanishes() -> None:
    grid = Grid((100, 100, 1), np.diag([1.0005, 1.002, 1, 1]))
    assert grid.at_spacing((10, 10, 50)).shape_vox == (10, 11, 1)  # 10.005, 10.02 and 0.02 voxels


def test_mapping_takes_a_voxel_to_the_same_millimetres() -> None:
    source = oblique((10, 11, 12), (1, 2, 3))
    target = source.crop((2, -1, 3), (5, 5, 5)).at_spacing((1.5, 1.5, 7))
    scale, offset = source.mapping_to(target)
    points = np.array([[0, 0, 0], [3, 4, 5], [9, 10, 11]])
    np.testing.assert_allclose(target.to_mm(points * scale + offset), source.to_mm(points), atol=1e-9)


def test_grids_with_different_axes_have_no_mapping() -> None:
    with pytest.raises(UserError, match="different axes"):
        oblique((10, 10, 10), (1, 1, 1)).mapping_to(Grid((10, 10, 10), np.eye(4)))


@pytest.mark.parametrize(("shift_mm", "matches"), [(0.19, True), (0.21, False)])
def test_grids_match_up_to_a_tenth_of_the_finest_voxel(shift_mm: float, matches: bool) -> None:
    first = Grid((5, 5, 5), np.diag([2, 3, 4, 1]))
    moved = first.affine_mm.copy()
    moved[0, 3] += shift_mm
    assert first.matches(Grid((5, 5, 5), moved)) is matches
    assert not first.matches(Grid((5, 5, 6), first.affine_mm))


def test_json_keeps_a_grid_to_the_last_bit() -> None:
    grid = oblique((3, 4, 5), (0.1, 0.7, 1 / 3))
    again = Grid.from_json(grid.to_json())
    assert again.shape_vox == grid.shape_vox
    np.testing.assert_array_equal(again.affine_mm, grid.affine_mm)
