"""Prepare when stores are damaged, when it is killed, and when several run at once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.stages.prepare import run
from pipeline.store.reader import open_store
from pipeline.store.verify import verify

ROOT = Path(__file__).parents[2]
HEAD_NECK = ROOT / "examples" / "head_neck"


# A damaged store


def cut_short(folder: Path) -> None:
    (folder / "image.raw").write_bytes((folder / "image.raw").read_bytes()[:-1])


def altered(folder: Path) -> None:
    data = bytearray((folder / "label.raw").read_bytes())
    data[5] ^= 1
    (folder / "label.raw").write_bytes(data)
    told = (folder / "case.json").stat().st_mtime_ns
    os.utime(folder / "label.raw", ns=(told + 1, told + 1))  # an edit within the tick of a coarse clock


def gone(folder: Path) -> None:
    (folder / "foreground.npy").unlink()


def facts_cut_short(folder: Path) -> None:
    (folder / "case.json").write_text((folder / "case.json").read_text()[:100])


def facts_altered(folder: Path) -> None:
    (folder / "case.json").write_text((folder / "case.json").read_text().replace('"name": "a"', '"name": "b"'))


def facts_gone(folder: Path) -> None:
    (folder / "case.json").unlink()


@pytest.mark.parametrize("damage", [cut_short, altered, gone, facts_cut_short, facts_altered, facts_gone])
def test_a_damaged_case_is_named_at_opening_and_prepare_makes_it_again_and_no_other(
    configure, store: Path, damage: Callable[[Path], None]
) -> None:
    run(configure())
    sound = contents(store)
    damage(store / "cases" / "a")
    with pytest.raises(UserError, match=r"cases/a|not prepared .*\(a\)"):
        open_store(store)
    outcome = run(configure())
    assert (outcome.done, outcome.skipped) == (("a",), ("b",))
    assert contents(store) == sound
    assert verify(store) == []


def test_damage_that_only_verify_finds_is_mended_by_what_it_says(configure, store: Path) -> None:
    run(configure())
    sound, folder = contents(store), store / "cases" / "a"
    told_ns = (folder / "label.raw").stat().st_mtime_ns
    altered(folder)
    os.utime(folder / "label.raw", ns=(told_ns, told_ns))
    (problem,) = verify(store)
    assert problem.endswith("; run prepare with prepare.verify=true, which makes this case again.")
    assert run(configure()).done == ()
    assert run(configure("prepare.verify=true")).done == ("a",)
    assert contents(store) == sound
    assert run(configure("prepare.verify=true")).done == ()


def test_a_shard_leaves_the_damage_of_another_to_it(configure, store: Path) -> None:
    run(configure())
    cut_short(store / "cases" / "a")
    assert run(configure("prepare.shard=2/2")).skipped == ("b",)
    assert run(configure("prepare.shard=1/2")).done == ("a",)
    assert len(open_store(store)) == 2


def test_a_store_that_was_copied_is_used_as_it_is(configure, store: Path) -> None:
    run(configure())
    copy = store.with_name("copy")
    shutil.copytree(store, copy, copy_function=shutil.copyfile)  # all files get a new time, in any order
    assert run(configure(f"data.store={copy}")).skipped == ("a", "b")
    assert contents(copy) == contents(store)


def test_a_catalogue_that_was_damaged_is_written_again(configure, store: Path) -> None:
    run(configure())
    sound = contents(store)
    (store / "cases.json").write_text("{")
    assert run(configure()).skipped == ("a", "b")
    assert contents(store) == sound


# Killed, and several at once


class Prepare:
    """Prepare in processes of its own, of four real cases at 6 mm."""

    def __init__(self, folder: Path) -> None:
        self.source, self.folder = folder / "source", folder
        for role in ("images", "labels"):
            (self.source / role).mkdir(parents=True)
            for name in ("hn_001", "hn_002", "hn_003", "hn_004"):
                file = f"{role}/{sorted((HEAD_NECK / role).iterdir())[int(name[-1]) - 1].name}"
                shutil.copyfile(HEAD_NECK / file, self.source / role / f"{name}.nii.gz")
        described = json.loads((HEAD_NECK / "dataset.json").read_text())
        (self.source / "dataset.json").write_text(json.dumps({"labels": described["labels"]}))
        self.started: list[subprocess.Popen] = []

    def start(self, work: str, *overrides: str, workers: int = 0) -> subprocess.Popen:
        standard = [f"work={self.folder / work}", f"data.source={self.source}", "prepare.spacing_mm=[6,6,6]"]
        command = [sys.executable, ROOT / "scripts" / "prepare.py", *standard, f"prepare.workers={workers}", *overrides]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.started.append(process)
        return process

    def finish(self, work: str, *overrides: str) -> None:
        process = self.start(work, *overrides)
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told

    def end(self) -> None:
        """Kill what is left of all that was started: workers outlive a killed parent until their case is finished."""
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.started.clear()

    def store(self, work: str) -> Path:
        return self.folder / work / "store"


@pytest.fixture
def prepare(tmp_path: Path):
    prepare = Prepare(tmp_path)
    yield prepare
    prepare.end()


def contents(store: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a store by path, but for the records, which hold seconds."""
    files = [path for path in store.rglob("*") if path.is_file() and path.parent != store / "records"]
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def changed_ns(prepare: Prepare, work: str) -> int:
    """Return when the first thing that prepare writes was written; 0 where it is not there."""
    with suppress(FileNotFoundError):
        return (prepare.store(work) / "cases.json").stat().st_mtime_ns
    return 0


def disturb(prepare: Prepare, work: str, seconds: float, chance: random.Random) -> bool:
    """Start prepare, and kill it at a random moment after it began to write; return False where it was done before."""
    before = changed_ns(prepare, work)
    process = prepare.start(work, workers=chance.choice((0, 2)))
    while changed_ns(prepare, work) == before and process.poll() is None:
        time.sleep(0.005)
    with suppress(subprocess.TimeoutExpired):
        process.wait(chance.uniform(0, seconds))
        return False
    if chance.random() < 0.5:
        process.kill()  # its workers go on for a while
    else:
        os.killpg(process.pid, signal.SIGKILL)
    return True


def seconds_of_writing(prepare: Prepare, work: str) -> float:
    """Prepare undisturbed; return the seconds from the first thing written to the end."""
    process = prepare.start(work, workers=2)
    while not changed_ns(prepare, work):
        time.sleep(0.005)
    began = time.perf_counter()
    assert process.wait(120) == 0
    return time.perf_counter() - began


def check_kills(prepare: Prepare, kills: int) -> None:
    chance = random.Random(0)
    seconds = seconds_of_writing(prepare, "undisturbed")
    expected = contents(prepare.store("undisturbed"))
    rounds = 0
    while kills > 0:
        rounds += 1
        work = f"killed{rounds}"
        while kills > 0 and disturb(prepare, work, seconds, chance):
            kills -= 1
        prepare.end()
        prepare.finish(work)
        assert contents(prepare.store(work)) == expected
        records = sorted(path.name for path in (prepare.store(work) / "records").iterdir())
        assert records == ["hn_001.json", "hn_002.json", "hn_003.json", "hn_004.json"]


def test_a_store_whose_making_was_killed_three_times_ends_as_one_left_alone(prepare) -> None:
    check_kills(prepare, 3)


@pytest.mark.slow
def test_a_store_whose_making_was_killed_fifty_times_ends_as_one_left_alone(prepare) -> None:
    check_kills(prepare, 50)


def test_three_shards_at_once_make_a_whole_store(prepare) -> None:
    prepare.finish("alone")
    processes = [prepare.start("shards", f"prepare.shard={number}/3") for number in (1, 2, 3)]
    for process in processes:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    assert contents(prepare.store("shards")) == contents(prepare.store("alone"))


def test_two_prepares_of_the_same_at_once_make_one_store(prepare) -> None:
    prepare.finish("alone")
    for process in [prepare.start("twice"), prepare.start("twice")]:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    assert contents(prepare.store("twice")) == contents(prepare.store("alone"))
    assert verify(prepare.store("twice")) == []
