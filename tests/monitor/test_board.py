"""What TensorBoard finds in the files of a run, asked of its own code."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator
from tensorboard.plugins import base_plugin
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin

from pipeline.monitor.board import Board
from pipeline.monitor.curves import PAGES, of_step, of_validation
from pipeline.monitor.vitals import Vitals

PNG = BytesIO()
Image.fromarray(np.full((4, 5, 3), 7, np.uint8)).save(PNG, "PNG")


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), STORE_EVERYTHING_SIZE_GUIDANCE).Reload()


def attempt(folder: Path, after: int, last: int, value: float, after_validation: int | None = None) -> None:
    """Write steps `after` + 1 to `last`, and a validation at every fourth."""
    board = Board(folder, after, after_validation, {"config": f"attempt of {value}", "data": "cases"})
    if after_validation is not None:
        validation(board, after, value)
    for step in range(after + 1, last + 1):
        board.scalars({"loss/total": value, "speed/learning_rate": value}, step)
        if step % 4 == 0:
            validation(board, step, value)
    board.close()


def validation(board: Board, step: int, value: float) -> None:
    board.scalars({"dice/mean": value}, step)
    board.overlay("case", PNG.getvalue(), step)
    board.text("cases/most_drawn", "words", step)
    board.histogram("cases/patches", [1, 2, 2], step)


@pytest.mark.parametrize("stops", [(0, 0), (6, 9), (4, 4), (9, 3)])
def test_a_run_stopped_twice_has_every_point_picture_and_text_once(tmp_path: Path, stops: tuple[int, int]) -> None:
    """Each attempt but the last comes to step 11; what the next goes on from was saved before."""
    attempt(tmp_path, 0, 11, 1.0)
    attempt(tmp_path, stops[0], 11, 2.0)
    attempt(tmp_path, stops[1], 12, 3.0)
    found = read(tmp_path)
    from_first = min(stops)
    expected = [1.0] * from_first + [2.0] * (stops[1] - from_first) + [3.0] * (12 - stops[1])
    for curve in ("loss/total", "speed/learning_rate"):
        points = [(point.step, point.value) for point in found.Scalars(curve)]
        assert points == list(zip(range(1, 13), expected, strict=True))
    assert [point.step for point in found.Scalars("dice/mean")] == [4, 8, 12]
    assert [picture.step for picture in found.Images("overlay/case")] == [4, 8, 12]
    assert [words.step for words in found.Tensors("cases/most_drawn/text_summary")] == [4, 8, 12]
    assert [spread.step for spread in found.Histograms("cases/patches")] == [4, 8, 12]
    (config,) = found.Tensors("config/text_summary")
    assert (config.step, config.tensor_proto.string_val[0]) == (0, b"attempt of 3.0")
    assert len(found.Tensors("data/text_summary")) == len(found.Tensors("custom_scalars__config__")) == 1


def test_a_validation_that_is_made_again_is_there_once(tmp_path: Path) -> None:
    """The state of step 8 was saved, then the validation was written, and the process killed before it saved again."""
    attempt(tmp_path, 0, 8, 1.0)
    attempt(tmp_path, 8, 12, 2.0, after_validation=7)
    found = read(tmp_path)
    assert [(point.step, point.value) for point in found.Scalars("dice/mean")] == [(4, 1.0), (8, 2.0), (12, 2.0)]
    assert [picture.step for picture in found.Images("overlay/case")] == [4, 8, 12]
    assert [point.step for point in found.Scalars("loss/total")] == [*range(1, 13)]


def test_a_tensorboard_that_is_open_forgets_what_is_no_longer_true(tmp_path: Path) -> None:
    attempt(tmp_path, 0, 11, 1.0)
    (path,) = tmp_path.iterdir()
    written = path.name.split(".")[3]
    path.rename(path.with_name(path.name.replace(written, str(int(written) - 2))))  # two seconds before the next one
    watching = EventAccumulator(str(tmp_path), STORE_EVERYTHING_SIZE_GUIDANCE).Reload()
    assert len(watching.Scalars("loss/total")) == 11
    attempt(tmp_path, 6, 12, 2.0)
    points = watching.Reload().Scalars("loss/total")
    assert [(point.step, point.value) for point in points] == [
        (step, 1.0 if step <= 6 else 2.0) for step in range(1, 13)
    ]


def test_a_picture_has_its_size_and_is_what_was_given(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.overlay("case", PNG.getvalue(), 1)
    board.close()
    (picture,) = read(tmp_path).Images("overlay/case")
    assert (picture.width, picture.height) == (5, 4)
    assert picture.encoded_image_string == PNG.getvalue()


@pytest.fixture
def plugin(tmp_path: Path, well: Callable[..., Vitals]) -> CustomScalarsPlugin:
    """Return TensorBoard's own plugin for pages, on a run with every curve that there is."""
    board = Board(tmp_path / "run")
    step = of_step(
        well(1), patches_per_second=2.0, wait_share=0.5, findings=0, positive_share={"bone": 1.0, "gland": 0.0},
        largest_case_share=0.5,
    )  # fmt: skip
    board.scalars(step, 1)
    board.scalars(of_validation(0.5, {"bone": 0.5, "gland": 0.25}), 1)
    board.close()
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(tmp_path))
    plugins: dict[str, Any] = {}
    given = base_plugin.TBContext(logdir=str(tmp_path), data_provider=provider, plugin_name_to_instance=plugins)
    plugins["scalars"] = ScalarsPlugin(given)
    return CustomScalarsPlugin(given)


def test_every_curve_is_on_a_page_and_every_chart_has_one(plugin: CustomScalarsPlugin, tmp_path: Path) -> None:
    shown: list[str] = []
    for page in json.loads(plugin.layout_impl(context.RequestContext(), ""))["category"]:
        assert [chart["title"] for chart in page["chart"]] == list(PAGES[page["title"]])
        for chart in page["chart"]:
            (curves,) = chart["multiline"]["tag"]
            found = plugin.scalars_impl(context.RequestContext(), "run", curves, "")
            assert found["regex_valid"] and found["tag_to_events"], chart["title"]
            shown += found["tag_to_events"]
    assert sorted(shown) == sorted(read(tmp_path / "run").Tags()["scalars"])
