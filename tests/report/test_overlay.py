"""Pictures of hand-made volumes, pixel by pixel. With `widest_px` as large as the volume a voxel is a pixel."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pipeline.labels import IGNORE
from pipeline.report import overlay
from pipeline.report.figures import OPACITY, PALETTE
from pipeline.report.overlay import FALSE_ALARM, MISSED, MOST_BYTES, OTHER_CLASS, STRIP_PX, fixed_point, overlay_png
from pipeline.volume.grid import Grid
from pipeline.volume.volume import Volume

SHAPE = (12, 10, 8)
WINDOW_HU = (0, 255)  # an HU is a level of grey
CT, TRUTH, PREDICTION, DIFFERENCE = range(4)
AXIAL, CORONAL, SAGITTAL = range(3)
NAMES = ("liver", "spleen")


def volume(voxels: np.ndarray, spacing_mm: tuple[float, float, float] = (1, 1, 1)) -> Volume:
    return Volume(voxels, Grid(voxels.shape, np.diag([*spacing_mm, 1.0])))


def empty(kind: type = np.uint8) -> np.ndarray:
    return np.zeros(SHAPE, kind)


def drawn(image: Volume, truth: np.ndarray, prediction: np.ndarray, widest_px: int = 12) -> np.ndarray:
    png = overlay_png(image, truth, prediction, NAMES, WINDOW_HU, widest_px)
    return np.asarray(Image.open(BytesIO(png)))


def panel(picture: np.ndarray, row: int, column: int, heights: tuple[int, int, int] = (10, 8, 8), width: int = 12):
    """Return a panel of a picture whose planes are so high."""
    left = column * (overlay.NARROWEST_PX + overlay.GAP_PX)
    top = (row + 1) * STRIP_PX + sum(heights[:row])
    return picture[top : top + heights[row], left : left + width]


def middle_voxel(label: int = 1) -> np.ndarray:
    """Return a truth whose planes are x = 6, y = 5 and z = 4."""
    truth = empty()
    truth[6, 5, 4] = label
    return truth


# Where is what


def test_an_axial_plane_has_the_right_on_the_left_and_the_front_at_the_top() -> None:
    image = empty(np.int16)
    image[11, :, 4] = 100  # furthest to the patient's right
    image[:, 9, 4] = 200  # the front
    seen = panel(drawn(volume(image), middle_voxel(), empty()), AXIAL, CT)[..., 0]
    assert (seen[0] == 200).all()
    assert (seen[1:, 0] == 100).all()
    assert not seen[1:, 1:].any()


def test_a_coronal_plane_has_the_head_at_the_top() -> None:
    image = empty(np.int16)
    image[11, 5, :] = 100
    image[:, 5, 7] = 200
    seen = panel(drawn(volume(image), middle_voxel(), empty()), CORONAL, CT)[..., 0]
    assert (seen[0] == 200).all() and (seen[1:, 0] == 100).all() and not seen[1:, 1:].any()


def test_a_sagittal_plane_has_the_head_at_the_top_and_the_front_on_the_left() -> None:
    image = empty(np.int16)
    image[6, 9, :] = 100
    image[6, :, 7] = 200
    seen = panel(drawn(volume(image), middle_voxel(), empty()), SAGITTAL, CT, width=10)[..., 0]
    assert (seen[0] == 200).all() and (seen[1:, 0] == 100).all() and not seen[1:, 1:].any()


# Which colour is where


def test_truth_and_prediction_are_outlined_and_tinted_in_the_colours_of_their_classes() -> None:
    image, truth, prediction = np.full(SHAPE, 100, np.int16), empty(), empty()
    truth[5:8, 4:7, 3:6] = 1  # its centre is 6, 5, 4
    prediction[5:8, 4:7, 3:6] = 2
    picture = drawn(volume(image), truth, prediction)
    for column, label in ((TRUTH, 1), (PREDICTION, 2)):
        seen = panel(picture, AXIAL, column)
        # x = 6 and y = 5 are column 11 - 6 and row 9 - 5.
        tint = np.rint((1 - OPACITY) * 100 + OPACITY * np.array(PALETTE[label - 1], np.float32))
        assert seen[4, 5].tolist() == tint.tolist()
        ring = seen[3:6, 4:7].reshape(-1, 3)[[0, 1, 2, 3, 5, 6, 7, 8]]
        assert (ring == PALETTE[label - 1]).all()
        assert np.count_nonzero((seen == 100).all(axis=-1)) == 12 * 10 - 9


def test_differences_have_a_colour_of_their_own_over_a_darker_ct() -> None:
    image, truth, prediction = np.full(SHAPE, 100, np.int16), empty(), empty()
    truth[6, 5, 4], prediction[6, 5, 4] = 1, 1  # found
    truth[4, 5, 4] = 1  # missed
    prediction[8, 5, 4] = 2  # a false alarm
    truth[6, 4, 4], prediction[6, 4, 4] = 1, 2  # another class
    truth[6, 6, 4], prediction[6, 6, 4] = IGNORE, 2  # nobody knows
    seen = panel(drawn(volume(image), truth, prediction), AXIAL, DIFFERENCE)
    found = {(row, column): tuple(seen[row, column]) for row, column in np.argwhere((seen != 50).any(axis=-1))}
    assert found == {(4, 7): MISSED, (4, 3): FALSE_ALARM, (5, 5): OTHER_CLASS}


def test_the_legend_has_the_colour_of_every_class_and_difference() -> None:
    picture = drawn(volume(empty(np.int16)), empty(), empty())
    legend = picture[-STRIP_PX:].reshape(-1, 3)
    for colour in (MISSED, FALSE_ALARM, OTHER_CLASS, *PALETTE[:2]):
        assert np.count_nonzero((legend == colour).all(axis=-1)) >= 100, colour


def test_a_long_legend_takes_more_lines_and_shows_all_of_them() -> None:
    names = [f"class number {number}" for number in range(50)]
    few = drawn(volume(empty(np.int16)), empty(), empty())
    png = overlay_png(volume(empty(np.int16)), empty(), empty(), names, WINDOW_HU, 12)
    many = np.asarray(Image.open(BytesIO(png)))
    legend = many[len(few) - STRIP_PX :]
    assert len(legend) % STRIP_PX == 0 and many.shape[1] == few.shape[1]
    for colour in PALETTE:  # each five times, in squares of ten pixels
        assert np.count_nonzero((legend == colour).all(axis=-1)) >= 5 * 100


# Sizes


def test_thick_slices_are_drawn_as_thick_as_they_are() -> None:
    image = empty(np.int16)
    image[6, 5, 4] = 200  # 1 x 1 x 3 mm
    thick = volume(image, (1, 1, 3))  # 12 x 10 x 24 mm
    # 4 pixels a mm would fit the width, but a plane is at most 1.5 times as high as wide: 24 mm in 72 pixels, 3 a mm.
    picture = drawn(thick, middle_voxel(), empty(), widest_px=48)
    truth = panel(picture, CORONAL, TRUTH, (30, 72, 72), 36)
    outlined = np.argwhere((truth == PALETTE[0]).all(axis=-1))
    assert outlined.min(axis=0).tolist() == [3 * 9, 5 * 3] and outlined.max(axis=0).tolist() == [3 * 9 + 8, 5 * 3 + 2]


def test_a_volume_of_one_voxel_is_drawn() -> None:
    one = np.zeros((1, 1, 1), np.uint8)
    assert Image.open(BytesIO(overlay_png(volume(one.astype(np.int16)), one, one, NAMES, WINDOW_HU))).width > 0


def test_noise_makes_planes_smaller_and_not_the_file_larger() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (150, 150, 150)).astype(np.int16)
    nothing = np.zeros(noise.shape, np.uint8)
    png = overlay_png(volume(noise), nothing, nothing, NAMES, WINDOW_HU)
    assert MOST_BYTES / 4 < len(png) <= MOST_BYTES


# The point


def test_planes_go_through_the_middle_of_a_block_and_not_through_what_is_ignored() -> None:
    truth = empty()
    truth[3:8, 2:5, 1:4] = 2
    truth[9:, 8:, 7:] = IGNORE
    assert fixed_point(truth) == (5, 3, 2)


def test_the_point_of_two_objects_lies_in_one_of_them() -> None:
    truth = empty()
    truth[1, 4, 4], truth[10, 4, 4], truth[9, 4, 4] = 1, 2, 2
    assert fixed_point(truth) == (9, 4, 4)  # the centre of all is x = 6.67


def test_without_a_class_it_is_the_middle() -> None:
    assert fixed_point(empty()) == (6, 5, 4)


@pytest.mark.parametrize("label", [1, IGNORE])
def test_the_same_picture_comes_twice(label: int) -> None:
    image = np.random.default_rng(1).integers(0, 255, SHAPE).astype(np.int16)
    truth = middle_voxel(label)
    pictures = [overlay_png(volume(image), truth, truth, NAMES, WINDOW_HU) for _ in range(2)]
    assert pictures[0] == pictures[1]
