import numpy as np
import pytest
from surface_distance import lookup_tables

from pipeline.metrics.surfels import CORNERS, neighbour_codes, surface_areas_mm2

CORNER = 1 << CORNERS.index((0, 0, 0))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 0.9, 3.1), (5.0, 2.0, 1.0)])
def test_areas_of_all_codes_equal_those_of_surface_distance(spacing_mm: tuple[float, float, float]) -> None:
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    code_of_theirs = [
        sum(1 << bit for bit, corner in enumerate(CORNERS) if code & int(kernel[corner])) for code in range(256)
    ]
    np.testing.assert_allclose(surface_areas_mm2(spacing_mm)[code_of_theirs], theirs, rtol=1e-12)


def test_a_cut_off_corner_is_a_triangle_between_edge_middles() -> None:
    # Equilateral with sides of sqrt(1/2): area sqrt(3)/4 * 1/2.
    assert surface_areas_mm2((1, 1, 1))[CORNER] == pytest.approx(np.sqrt(3) / 8)


def test_a_half_filled_cube_is_cut_by_its_face_area() -> None:
    lower_half_in_x = sum(1 << bit for bit, corner in enumerate(CORNERS) if corner[0] == 0)
    assert surface_areas_mm2((2, 3, 5))[lower_half_in_x] == pytest.approx(15)


def test_one_voxel_has_eight_codes_each_with_another_corner() -> None:
    codes = neighbour_codes(np.ones((1, 1, 1), bool))
    assert codes.shape == (2, 2, 2)
    assert sorted(codes.ravel().tolist()) == [1 << bit for bit in range(8)]


def test_the_inside_and_the_outside_of_a_block_have_no_surface() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[1:4, 1:4, 1:4] = True
    codes = neighbour_codes(mask)
    assert codes[2, 2, 2] == 255
    assert codes[0, 0, 0] == 0
    assert np.count_nonzero((codes != 0) & (codes != 255)) == 4**3 - 2**3
