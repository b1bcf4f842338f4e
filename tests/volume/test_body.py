"""The box around the body."""

import numpy as np

from pipeline.volume.body import body_box


def test_the_box_holds_everything_above_air_with_its_margin_inside_the_volume() -> None:
    hu = np.full((20, 20, 20), -1000, np.int16)
    hu[8:11, 1:5, 19] = 40
    hu[8, 4, 15] = -499
    assert body_box(hu, margin_vox=0) == ((8, 1, 15), (3, 4, 5))
    assert body_box(hu, margin_vox=2) == ((6, 0, 13), (7, 7, 7))


def test_nothing_above_air_keeps_the_whole_volume() -> None:
    assert body_box(np.full((3, 4, 5), -500, np.int16)) == ((0, 0, 0), (3, 4, 5))
