from pathlib import Path

import numpy as np
from matplotlib.image import imread

from pipeline.report.case_picture import draw_case
from pipeline.report.figures import colour_of
from pipeline.volume.grid import Grid
from pipeline.volume.volume import Volume


def test_the_picture_shows_the_slice_with_most_classes_in_their_colours(tmp_path: Path) -> None:
    image = Volume(np.full((20, 24, 10), -1000, np.int16), Grid((20, 24, 10), np.diag([1.0, 1.0, 3.0, 1.0])))
    truth = np.zeros((20, 24, 10), np.uint8)
    truth[4:9, 4:9, 6] = 1
    truth[12:16, 12:16, 6] = 2
    truth[2:18, 2:18, 2] = 1  # larger, but one class only
    draw_case(tmp_path / "case.png", image, truth, truth, ("liver", "spleen"), title="a case")
    axial = np.rint(imread(tmp_path / "case.png")[:400, :400, :3] * 255)  # the left third, above the legend
    for label in (1, 2):
        assert np.count_nonzero(np.abs(axial - colour_of(label)).max(axis=-1) <= 2) > 20


def test_a_case_without_labels_is_drawn_too(tmp_path: Path) -> None:
    image = Volume(np.zeros((8, 8, 8), np.int16), Grid((8, 8, 8), np.eye(4)))
    empty = np.zeros((8, 8, 8), np.uint8)
    draw_case(tmp_path / "case.png", image, empty, empty, ("liver",))
    assert imread(tmp_path / "case.png").shape[:2] == (460, 1200)
