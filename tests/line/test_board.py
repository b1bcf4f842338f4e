"""What a person watches of a real training, read back from its event files."""

import os
import signal
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator

from pipeline.errors import ExitCode, Interrupted
from pipeline.monitor.curves import PAGES, column_of
from pipeline.monitor.table import read_rows
from pipeline.report.overlay import MOST_BYTES
from pipeline.stages import train
from pipeline.training.recorder import Recorder

from .conftest import Configure
from .test_ranks import ended, start_ranks

RUN = Path("train/fold0")
SHOWN = [1, 2, 4, 6, 8, 10, 12]
SCORED = [5, 10, 12]


def read(work: Path) -> EventAccumulator:
    return EventAccumulator(str(work / RUN), STORE_EVERYTHING_SIZE_GUIDANCE).Reload()


def curves_of(work: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the points of all curves but speeds, by column of train.csv."""
    events = read(work)
    names = [name for name in events.Tags()["scalars"] if not name.startswith("speed/")]
    return {column_of(name): [(point.step, point.value) for point in events.Scalars(name)] for name in names}


def columns_of(work: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the same from train.csv."""
    speeds = {column_of(name) for name in read(work).Tags()["scalars"] if name.startswith("speed/")}
    found: dict[str, list[tuple[int, float]]] = {}
    for row in read_rows(work / RUN / "train.csv"):
        for column, cell in row.items():
            if cell and column not in speeds | {"step"}:
                found.setdefault(column, []).append((int(row["step"]), float(np.float32(cell))))
    return found


def text_of(work: Path, name: str) -> str:
    (told,) = read(work).Tensors(f"{name}/text_summary")
    return told.tensor_proto.string_val[0].decode()


def test_every_page_has_curves_and_they_have_every_step_once(trained: Path) -> None:
    found = curves_of(trained)
    steps = {column: [step for step, _ in points] for column, points in found.items()}
    assert steps["loss"] == steps["topk_part"] == steps["grad_norm"] == steps["findings"] == SHOWN
    assert steps["dice"] == steps["dice Mandible"] == SCORED
    events = read(trained)
    assert [point.step for point in events.Scalars("speed/memory_gib")] == SHOWN
    assert len(events.Tensors("custom_scalars__config__")) == 1
    groups = {name.partition("/")[0] for name in events.Tags()["scalars"]}
    assert {page.lower() for page in PAGES} <= groups


def test_the_table_has_the_same_numbers(trained: Path) -> None:
    assert columns_of(trained) == curves_of(trained)


def test_a_held_out_case_is_drawn_at_every_validation(trained: Path) -> None:
    events = read(trained)
    (name,) = events.Tags()["images"]
    pictures = events.Images(name)
    assert name == "overlay/hn_021" and [picture.step for picture in pictures] == SCORED
    decoded = [np.asarray(Image.open(BytesIO(picture.encoded_image_string))) for picture in pictures]
    assert all(len(picture.encoded_image_string) <= MOST_BYTES for picture in pictures)
    columns = np.array_split(np.arange(decoded[0].shape[1]), 4)
    changed = [(decoded[0] != later).any(axis=(0, 2)) for later in decoded[1:]]
    for moved in changed:  # the CT and the truth stay, on the same slices; what is made of them need not
        assert not moved[columns[0]].any() and not moved[columns[1]].any()


def test_config_and_data_are_told_as_text(trained: Path) -> None:
    written = yaml.safe_load(text_of(trained, "config").removeprefix("```yaml\n").removesuffix("```"))
    assert written["train"]["steps"] == 12
    assert written["prepare"]["spacing_mm"] == [8, 8, 8] and written["sample"]["patch_vox"] == [16, 16, 16]
    data = text_of(trained, "data")
    assert "| cases to learn from | 3: hn_001, hn_016, hn_022 |" in data and "| cases held out | 1: hn_021 |" in data
    assert "| Mandible | 3 | 1 |" in data and "| spacing, mm | 8 x 8 x 8 |" in data


def test_a_run_that_was_ended_twice_shows_what_one_that_was_left_alone_does(
    configure: Configure, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("train.save_every_steps=3")
    real = Recorder.step

    def ending(self: Recorder, step: int, *args: Any, **options: Any) -> None:
        real(self, step, *args, **options)
        if step == 8 and not (tmp_path / "crashed").exists():
            (tmp_path / "crashed").touch()
            raise RuntimeError("a crash, after which steps 7 and 8 are made again")
        if step == 10 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Recorder, "step", ending)
    for error in (RuntimeError, Interrupted):
        with pytest.raises(error):
            train.run(config)
    assert train.run(config).done == ("fold0",)
    assert curves_of(config.work) == curves_of(trained) == columns_of(config.work)
    ours, theirs = read(config.work), read(trained)
    assert [point.step for point in ours.Scalars("speed/wait_share")] == SHOWN
    assert ours.Tags()["images"] == theirs.Tags()["images"]
    for name in ours.Tags()["images"]:
        pictures = [
            [(shown.step, shown.encoded_image_string) for shown in events.Images(name)] for events in (ours, theirs)
        ]
        assert pictures[0] == pictures[1]
    assert sorted(ours.Tags()["tensors"]) == sorted(theirs.Tags()["tensors"])
    for name in ours.Tags()["tensors"]:
        assert [told.step for told in ours.Tensors(name)] == [told.step for told in theirs.Tensors(name)], name


@pytest.mark.slow
def test_one_of_two_processes_writes_and_draws_what_both_predicted(source: Path, store: Path, tmp_path: Path) -> None:
    short = ("data.folds=2", "train.steps=3", "train.validate_every_steps=3")
    for work, count in (("one", 1), ("two", 2)):
        processes = ended(start_ranks(source, store, tmp_path / work, *short, count=count))
        assert [code for code, _ in processes] == [ExitCode.DONE] * count, processes
        assert len(list((tmp_path / work / RUN).glob("events.*"))) == 1
        assert len(read(tmp_path / work).Tags()["images"]) == 2
    assert read(tmp_path / "two").Tags()["images"] == read(tmp_path / "one").Tags()["images"]
