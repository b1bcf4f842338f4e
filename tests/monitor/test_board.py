"""Curves of a resumed run continue without a zig-zag."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.monitor.board import Board


@pytest.mark.parametrize("after_step", [0, 3])
def test_what_an_earlier_attempt_showed_beyond_the_saved_step_is_hidden(tmp_path: Path, after_step: int) -> None:
    for first, value in ((1, 0.5), (after_step + 1, 0.25)):
        board = Board(tmp_path, first - 1)
        for step in range(first, 6):
            board.scalars({"loss/total": value}, step)
        board.overlay("validation", np.zeros((4, 5, 3), np.uint8), 5)
        board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    points = [(event.step, event.value) for event in events.Scalars("loss/total")]
    assert points == [(step, 0.5 if step <= after_step else 0.25) for step in range(1, 6)]
    assert [(image.step, image.width, image.height) for image in events.Images("overlay/validation")] == [(5, 5, 4)]
