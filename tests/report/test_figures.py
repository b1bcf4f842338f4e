import numpy as np

from pipeline.labels import IGNORE
from pipeline.report.figures import OPACITY, PALETTE, colour_of, overlay_slice

EMPTY = np.zeros((5, 4), np.uint8)


def test_the_window_becomes_grey_from_black_to_white() -> None:
    image = np.full((5, 4), 100, np.int16)
    image[0, 0], image[1, 0] = -1000, 3000
    pixels = overlay_slice(image, EMPTY, EMPTY, (-200, 400))
    assert pixels.shape == (4, 5, 3)
    assert pixels.dtype == np.uint8
    assert pixels[3, 4].tolist() == [0, 0, 0]
    assert pixels[3, 3].tolist() == [255, 255, 255]
    assert pixels[0, 0].tolist() == [128, 128, 128]  # 100 HU is the middle: 127.5, rounded to even


def test_right_is_on_the_left_and_front_at_the_top() -> None:
    image = np.zeros((5, 4), np.int16)
    image[4, 3] = 400  # furthest to the right and to the front
    pixels = overlay_slice(image, EMPTY, EMPTY, (0, 400))
    assert np.argwhere(pixels[..., 0]).tolist() == [[0, 0]]


def test_the_truth_is_an_outline_and_the_prediction_a_tint() -> None:
    black = np.zeros((5, 5), np.int16)
    block = np.zeros((5, 5), np.uint8)
    block[1:4, 1:4] = 2
    nothing = np.zeros_like(block)
    outlined = overlay_slice(black, block, nothing, (0, 400))
    assert np.count_nonzero(outlined.any(axis=-1)) == 8  # the block without its centre
    assert tuple(outlined[1, 1]) == PALETTE[1]
    tinted = overlay_slice(black, nothing, block, (0, 400))
    assert np.count_nonzero(tinted.any(axis=-1)) == 9
    assert tuple(tinted[2, 2]) == tuple(np.rint(OPACITY * np.array(PALETTE[1], np.float32)).astype(int))


def test_ignored_pixels_are_left_as_they_are() -> None:
    ignored = np.full((5, 4), IGNORE, np.uint8)
    image = np.zeros((5, 4), np.int16)
    assert not overlay_slice(image, ignored, ignored, (0, 400)).any()


def test_an_outline_closes_at_the_edge_of_the_picture() -> None:
    full = np.ones((5, 4), np.uint8)
    pixels = overlay_slice(np.zeros((5, 4), np.int16), full, EMPTY, (0, 400))
    assert np.count_nonzero(pixels.any(axis=-1)) == 5 * 4 - 3 * 2


def test_colours_come_round_again() -> None:
    assert colour_of(1) == colour_of(1 + len(PALETTE)) == PALETTE[0]
