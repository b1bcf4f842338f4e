"""What of an event file stands when a run goes on."""

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from pipeline.monitor.events import PATTERN, forget, records


def write(folder: Path, steps: range, tags: tuple[str, ...] = ("loss",)) -> Path:
    """Write a file of scalars as torch does; their values are their steps."""
    before = set(folder.glob(PATTERN))
    writer = SummaryWriter(str(folder))
    for step in steps:
        for tag in tags:
            writer.add_scalar(tag, step, step)
    writer.close()
    (path,) = set(folder.glob(PATTERN)) - before
    return path


def earlier(path: Path, seconds: int) -> Path:
    """Give a file the name that it would have had before."""
    *start, written, host, process, number = path.name.split(".")
    return path.rename(path.with_name(".".join([*start, str(int(written) - seconds), host, process, number])))


def steps_of(folder: Path, tag: str = "loss") -> list[int]:
    return [point.step for point in EventAccumulator(str(folder)).Reload().Scalars(tag)]


def test_a_file_is_read_as_tensorboard_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path, range(1, 4))
    found = list(records(path))
    assert b"".join(record.stored for record in found) == path.read_bytes()
    assert [record.event.step for record in found if record.event.HasField("summary")] == [1, 2, 3]


def test_every_tag_is_cut_where_it_ends(tmp_path: Path) -> None:
    write(tmp_path, range(1, 9), ("loss", "dice", "config"))
    forget(tmp_path, {"loss": 5, "dice": 4, "config": -1}.__getitem__)
    assert (steps_of(tmp_path), steps_of(tmp_path, "dice")) == ([*range(1, 6)], [*range(1, 5)])
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"] == ["loss", "dice"]


def test_of_a_file_of_which_nothing_stands_the_head_remains(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    forget(tmp_path, lambda tag: 0)
    (kept,) = tmp_path.iterdir()
    assert [record.event.file_version for record in records(kept)] == ["brain.Event:2"]


def test_a_file_keeps_its_name_where_the_next_one_comes_after_it(tmp_path: Path) -> None:
    before = earlier(write(tmp_path, range(1, 4)), seconds=2)
    forget(tmp_path, lambda tag: 2)
    assert list(tmp_path.iterdir()) == [before]


def test_other_files_and_a_folder_without_any_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("step\n")
    forget(tmp_path, lambda tag: 0)
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]


def test_attempts_stay_in_order_whatever_the_clocks_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second attempt runs on a machine whose clock is a day behind."""
    write(tmp_path, range(1, 4))
    real = time.time
    with monkeypatch.context() as behind:
        behind.setattr(time, "time", lambda: real() - 86400)
        forget(tmp_path, lambda tag: 3)
        write(tmp_path, range(4, 7))
    forget(tmp_path, lambda tag: 5)
    write(tmp_path, range(6, 9))
    assert steps_of(tmp_path) == [*range(1, 9)]


def test_what_was_done_halfway_is_done_again(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    write(tmp_path, range(6, 9))
    for _ in range(3):
        forget(tmp_path, lambda tag: 7)
        assert steps_of(tmp_path) == [*range(1, 8)]


def test_a_file_may_be_torn_anywhere(tmp_path: Path) -> None:
    path = write(tmp_path, range(1, 4))
    whole = path.read_bytes()
    last = list(records(path))[-1].stored
    for cut in range(1, len(last) + 1):
        path.write_bytes(whole[:-cut])
        assert [record.event.step for record in records(path)][1:] == [1, 2]
    path.write_bytes(whole[:-1])
    forget(tmp_path, lambda tag: 9)
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == whole.removesuffix(last)


@pytest.mark.parametrize(
    "tail", [bytes(500), b"\xff" * 500, b"\x05" + bytes(11) + b"\xff" * 9], ids=["0", "255", "no event"]
)
def test_what_a_power_cut_leaves_at_the_end_is_no_event(tmp_path: Path, tail: bytes) -> None:
    path = write(tmp_path, range(1, 4))
    path.write_bytes(path.read_bytes() + tail)
    assert [record.event.step for record in records(path)][1:] == [1, 2, 3]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=5))
def test_after_any_stops_every_step_is_there_once(stops: list, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An attempt takes some steps, of which a part was saved."""
    folder = tmp_path_factory.mktemp("run")
    done = 0
    for taken, saved in stops:
        write(folder, range(done + 1, done + taken + 1))
        done += min(taken, saved)
        forget(folder, lambda tag, end=done: end)
    write(folder, range(done + 1, done + 2))
    assert steps_of(folder) == [*range(1, done + 2)]
