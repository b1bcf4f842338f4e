"""Spawned processes: answers, deaths and messages; and what this process may use."""

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from pipeline import processes
from pipeline.errors import UserError
from pipeline.log import log
from pipeline.processes import Failure, _cgroup_cores, available_cores, each, peak_memory_bytes


def answer(number: int) -> int:
    """Return the square, or what the number stands for goes wrong."""
    log.warning("answering %d", number)
    if number == 13:
        raise UserError("thirteen: refused; give another number.")
    if number == 14:
        raise ZeroDivisionError("a mistake in the code")
    if number == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def wait_for_ever(file: Path) -> None:
    """Tell the own process number, and wait."""
    file.write_text(str(os.getpid()))
    signal.pause()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_item_is_answered_and_an_error_is_that_items_own(workers: int) -> None:
    found = dict(each(answer, [1, 13, 2, 14, 3], workers=workers))
    assert {number: found[number] for number in (1, 2, 3)} == {1: 1, 2: 4, 3: 9}
    assert found[13] == Failure("thirteen: refused; give another number.", by_machine=False)
    assert found[14] == Failure("ZeroDivisionError: a mistake in the code (an internal error)", by_machine=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_no_items_are_no_error(workers: int) -> None:
    assert list(each(answer, [], workers=workers)) == []


def test_a_death_is_told_and_the_other_items_are_answered() -> None:
    found = dict(each(answer, [1, 15, 2, 3], workers=2))
    assert (found[1], found[2], found[3]) == (1, 4, 9)
    assert isinstance(found[15], Failure) and found[15].died and found[15].by_machine
    assert "killed by signal 9" in found[15].sentence


class Deadly:
    """A function that ends the process that it is unpickled in, while its item is still on the way."""

    def __call__(self, item: bytes) -> None:
        raise AssertionError("it is never called")

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (3,)


def test_a_death_with_the_item_half_sent_is_told() -> None:
    ((_, found),) = each(Deadly(), [bytes(20_000_000)], workers=1)
    assert isinstance(found, Failure) and found.died
    assert "ended with code 3" in found.sentence


def test_what_a_process_logs_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    log.propagate, before = True, log.propagate
    try:
        list(each(answer, [5], workers=1))
    finally:
        log.propagate = before
    assert "answering 5" in caplog.text


def test_closing_ends_the_processes(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    answers = each(answer_or_wait, [None, *files], workers=3)
    with closing(answers):
        assert next(answers) == (None, None)
        while not all(file.exists() and file.read_text() for file in files):
            pass
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)


def answer_or_wait(file: Path | None) -> None:
    """Return at once where there is no file to tell the process number in."""
    if file is not None:
        wait_for_ever(file)


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_memory_bytes()
    held = bytearray(before + 50_000_000)
    assert peak_memory_bytes() >= len(held) > before


def test_cores_are_those_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert available_cores() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "100000")
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"job/cpu.max": "250000 100000"}, [2]),
        ({"job/cpu.max": "max 100000", "cpu.max": "400000 100000"}, [4]),
        ({"job/cpu.max": "50000 100000"}, [0]),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, [3]),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        ({}, []),
    ],
)
def test_quotas_of_both_versions_of_cgroups_are_read(tmp_path: Path, files: dict[str, str], cores: list[int]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    membership = tmp_path / "membership"
    membership.write_text("0::/job\n")
    assert _cgroup_cores(tmp_path, membership) == cores


@pytest.mark.parametrize(
    ("given", "others", "limit", "threads"),
    [("auto", 0, None, 8), ("auto", 3, None, 5), ("auto", 9, None, 1), ("auto", 0, "2", 2), ("auto", 0, "4,2", 4),
     ("auto", 0, "99", 8), ("auto", 0, "0", 8), ("auto", 0, "many", 8), (3, 0, "1", 3)],
)  # fmt: skip
def test_threads_are_the_cores_left_or_what_openmp_is_told(
    monkeypatch: pytest.MonkeyPatch, given: int, others: int, limit: str | None, threads: int
) -> None:
    monkeypatch.setattr(processes, "available_cores", lambda: 8)
    if limit is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert processes.threads_of(given, others) == threads
