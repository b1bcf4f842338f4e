"""Units: made once, recorded, skipped, and failing alone; in this process and in others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import ExitCode, Interrupted, UserError
from pipeline.files import read_json, temporary_sibling
from pipeline.log import log, start, stop
from pipeline.processes import available_cores
from pipeline.work import (
    Outcome,
    Unit,
    WorkFolder,
    gather,
    run_units,
    versions,
)

ROOT = Path(__file__).parents[1]


def make(unit: Unit, temporary: Path) -> dict[str, int]:
    """Do what the unit's name says, and write the name."""
    if unit.name.startswith("refused"):
        raise UserError("image.nii.gz: holds NaN; repair it.")
    if unit.name.startswith("bug"):
        raise ZeroDivisionError("a mistake in the code")
    if unit.name.startswith("full disk"):
        temporary.write_text("half")
        with open("/dev/full", "w") as file:
            file.write("x")
    if unit.name.startswith("memory"):
        raise MemoryError
    if unit.name.startswith("killed"):
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    if unit.name.startswith("stopped"):
        temporary.write_text("half")
        raise KeyboardInterrupt
    if unit.name.startswith("folder"):
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "array").write_bytes(b"12345")
    else:
        temporary.write_text(unit.name)
    log.warning("%s is written", unit.name)
    return {"letters": len(unit.name)}


def report_process(unit: Unit, temporary: Path) -> dict[str, object]:
    """Write nothing of interest; return what the process is like that makes the unit."""
    time.sleep(0.3)  # so that the other process gets a unit too
    temporary.touch()
    return {"process": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")}


def units_of(folder: Path, *names: str, key: str = "k") -> list[Unit]:
    return [Unit(name, key, folder / name) for name in names]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Paths and outcomes


def test_the_work_folder_is_laid_out_as_documented() -> None:
    work = WorkFolder(Path("w"))
    assert [work.store, work.predict, work.evaluate] == [Path("w/store"), Path("w/predict"), Path("w/evaluate")]
    assert [work.train(0), work.train("all")] == [Path("w/train/fold0"), Path("w/train/all")]
    assert [work.model(3), work.state(3)] == [Path("w/train/fold3/model"), Path("w/train/fold3/state")]
    assert work.log("infer") == Path("w/log/infer.log")


def test_outcomes_add_up_and_one_failure_decides_the_exit_code() -> None:
    good = Outcome(done=("a",), skipped=("b",))
    both = good + Outcome(done=("c",), failed={"d": "why"})
    assert both == Outcome(("a", "c"), ("b",), {"d": "why"})
    assert (both + Outcome(failed={"e": "full"}, by_machine=frozenset({"e"}))).by_machine == {"e"}
    assert (good.exit_code, both.exit_code, Outcome().exit_code) == (ExitCode.DONE, ExitCode.SOME_FAILED, ExitCode.DONE)


# Made, recorded, skipped


@pytest.mark.parametrize("workers", [0, 2])
def test_units_are_made_recorded_and_gathered_in_order(tmp_path: Path, workers: int) -> None:
    units = units_of(tmp_path / "out", "b", "folder", "ä with space")
    outcome = run_units(tmp_path, units, make, workers=workers)
    assert (sorted(outcome.done), outcome.skipped, outcome.failed) == (["b", "folder", "ä with space"], (), {})
    assert names_in(tmp_path / "out") == ["b", "folder", "ä with space"]
    assert names_in(tmp_path / "records") == ["b.json", "folder.json", "ä with space.json"]
    records = gather(tmp_path, units)
    assert records is not None
    assert [record["name"] for record in records] == ["b", "folder", "ä with space"]
    assert records[0]["outputs"] == {"b": 1}
    assert records[1]["outputs"] == {"folder/deep/array": 5}
    assert records[2]["facts"] == {"letters": 12}
    assert all(record["key"] == "k" and record["seconds"] >= 0 for record in records)
    assert all(record["peak_memory_bytes"] > 1e6 and "python" in record["versions"] for record in records)
    assert read_json(tmp_path / "done.json") == {"units": ["b", "folder", "ä with space"]}


def test_no_units_are_no_error(tmp_path: Path) -> None:
    assert run_units(tmp_path / "new", [], make, workers=2) == Outcome()
    assert gather(tmp_path / "new", []) == []


def test_a_unit_that_stands_is_skipped(tmp_path: Path) -> None:
    run_units(tmp_path, units_of(tmp_path, "a"), make, workers=0)
    before = (tmp_path / "a").stat().st_mtime_ns
    outcome = run_units(tmp_path, units_of(tmp_path, "a", "b"), make, workers=0)
    assert outcome == Outcome(done=("b",), skipped=("a",))
    assert (tmp_path / "a").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["key", "output gone", "output shorter", "record gone", "record torn"])
def test_a_unit_that_does_not_stand_any_more_is_made_again(tmp_path: Path, damage: str) -> None:
    units = units_of(tmp_path, "folder 1")
    run_units(tmp_path, units, make, workers=0)
    array, record = tmp_path / "folder 1" / "deep" / "array", tmp_path / "records" / "folder 1.json"
    if damage == "key":
        units = units_of(tmp_path, "folder 1", key="other")
    elif damage == "output gone":
        array.unlink()
    elif damage == "output shorter":
        array.write_bytes(b"1234")
    elif damage == "record gone":
        record.unlink()
    else:
        record.write_text('{"key": "k"')
    assert gather(tmp_path, units) is None
    assert run_units(tmp_path, units, make, workers=0) == Outcome(done=("folder 1",))
    assert array.read_bytes() == b"12345"
    assert gather(tmp_path, units) is not None


def test_shards_share_the_units_and_the_last_one_marks_the_stage_done(tmp_path: Path) -> None:
    units = units_of(tmp_path, *"abcde")
    assert run_units(tmp_path, units, make, workers=0, shard="1/2").done == ("a", "c", "e")
    assert gather(tmp_path, units) is None
    assert not (tmp_path / "done.json").exists()
    assert run_units(tmp_path, units, make, workers=0, shard="2/2").done == ("b", "d")
    assert (tmp_path / "done.json").exists()


def test_progress_is_shown_under_the_name_of_the_stage_wherever_its_folder_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start()
    run_units(tmp_path / "elsewhere", units_of(tmp_path, "a"), make, workers=0, what="prepare")
    stop()
    assert "prepare 1/1 (a)" in capsys.readouterr().err


def test_a_shard_beyond_the_last_unit_has_nothing_to_do(tmp_path: Path) -> None:
    assert run_units(tmp_path, units_of(tmp_path, "a"), make, workers=0, shard="2/2") == Outcome()


def test_a_stage_with_a_new_unit_is_not_done_until_that_is_made(tmp_path: Path) -> None:
    run_units(tmp_path, units_of(tmp_path, "a"), make, workers=0)
    run_units(tmp_path, units_of(tmp_path, "a", "refused"), make, workers=0)
    assert not (tmp_path / "done.json").exists()
    run_units(tmp_path, units_of(tmp_path, "a"), make, workers=0)
    assert (tmp_path / "done.json").exists()


# Failing alone

FAILURES = {
    "refused": "image.nii.gz: holds NaN; repair it.",
    "bug": "ZeroDivisionError: a mistake in the code",
    "full disk": "no space left on device; free some space",
    "memory": "not enough memory",
}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failed_unit_gets_its_sentence_and_the_others_go_on(tmp_path: Path, workers: int) -> None:
    outcome = run_units(tmp_path, units_of(tmp_path, "a", *FAILURES, "z"), make, workers=workers)
    assert sorted(outcome.done) == ["a", "z"]
    assert list(outcome.failed) == list(FAILURES)  # in the order of units
    assert outcome.by_machine == {"full disk", "memory"}
    for name, words in FAILURES.items():
        assert words in outcome.failed[name]
        error = read_json(tmp_path / "records" / f"{name}.error.json")
        assert error["error"] == outcome.failed[name]
        assert "Traceback" in error["traceback"]
    assert names_in(tmp_path) == ["a", "records", "z"]


def test_a_unit_that_is_mended_loses_its_error(tmp_path: Path) -> None:
    def mended(unit: Unit, temporary: Path) -> None:
        temporary.touch()

    run_units(tmp_path, units_of(tmp_path, "refused"), make, workers=0)
    assert run_units(tmp_path, units_of(tmp_path, "refused"), mended, workers=0).done == ("refused",)
    assert names_in(tmp_path / "records") == ["refused.json"]


def test_a_failure_leaves_the_old_output_in_place(tmp_path: Path) -> None:
    (tmp_path / "full disk").write_text("old")
    run_units(tmp_path, units_of(tmp_path, "full disk"), make, workers=0)
    assert (tmp_path / "full disk").read_text() == "old"


def test_a_killed_process_fails_its_own_unit_only(tmp_path: Path) -> None:
    units = units_of(tmp_path, "a", "killed 1", "b", "killed 2", "c", "d")
    outcome = run_units(tmp_path, units, make, workers=2)
    assert sorted(outcome.done) == ["a", "b", "c", "d"]
    assert outcome.failed.keys() == outcome.by_machine == {"killed 1", "killed 2"}
    assert "killed by signal 9" in outcome.failed["killed 1"] and "prepare.workers=1" in outcome.failed["killed 1"]
    assert read_json(tmp_path / "records" / "killed 1.error.json")["error"] == outcome.failed["killed 1"]
    assert names_in(tmp_path) == ["a", "b", "c", "d", "records"]


def test_a_stage_folder_that_cannot_be_made_is_an_error_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(OSError):
        run_units(tmp_path / "store", units_of(tmp_path, "a"), make, workers=0)


def test_a_unit_that_another_process_made_first_is_no_failure(tmp_path: Path) -> None:
    units = units_of(tmp_path, "a")

    def too_late(unit: Unit, temporary: Path) -> None:
        run_units(tmp_path, units, make, workers=0)
        raise FileNotFoundError(2, "lost the rename", str(temporary))

    assert run_units(tmp_path, units, too_late, workers=0) == Outcome(done=("a",))


# Interrupted


def test_an_interruption_leaves_finished_units_and_no_temporary_file(tmp_path: Path) -> None:
    units = units_of(tmp_path, "a", "stopped", "b")
    with pytest.raises(Interrupted):
        run_units(tmp_path, units, make, workers=0)
    assert names_in(tmp_path) == ["a", "records"]
    assert run_units(tmp_path, units_of(tmp_path, "a", "b"), make, workers=0) == Outcome(("b",), ("a",))


def test_old_temporary_files_are_removed_and_young_ones_are_left(tmp_path: Path) -> None:
    for name, age_s in {".partial-old": 90_000, ".partial-young": 60, "other": 90_000}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    run_units(tmp_path, units_of(tmp_path, "a"), make, workers=0)
    assert names_in(tmp_path) == [".partial-young", "a", "done.json", "other", "records"]


def test_temporary_files_of_a_process_that_ended_are_removed_at_once(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from pipeline.files import temporary_sibling as name\n"
    code += "name(Path(sys.argv[1])).touch()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "left")], cwd=ROOT, check=True)
    ours = temporary_sibling(tmp_path / "at work")
    ours.touch()
    assert len(names_in(tmp_path)) == 2
    run_units(tmp_path, units_of(tmp_path, "a"), make, workers=0)
    assert names_in(tmp_path) == [ours.name, "a", "done.json", "records"]


# Processes and the machine


def test_processes_share_the_cores_and_each_makes_several_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    units = units_of(tmp_path, *"abcd")
    run_units(tmp_path, units, report_process, workers=2)
    facts = [record["facts"] for record in gather(tmp_path, units) or []]
    assert len({fact["process"] for fact in facts}) == 2
    assert os.getpid() not in {fact["process"] for fact in facts}
    assert {fact["threads"] for fact in facts} == {str(max(1, available_cores() // 2))}
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_a_process_logs_is_shown_by_its_parent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_units(tmp_path, units_of(tmp_path, "a", "b"), make, workers=1)
    assert [record.getMessage() for record in caplog.records if "written" in record.message] == [
        "a is written",
        "b is written",
    ]


def test_versions_name_what_is_loaded() -> None:
    assert {"python", "hounsfield"} <= versions().keys()


def test_what_is_made_of_all_units_is_made_before_the_stage_is_marked_as_done(tmp_path: Path) -> None:
    marks: list[bool] = []
    units = units_of(tmp_path, *"ab")
    for shard in ("1/2", "2/2"):
        run_units(
            tmp_path, units, make, workers=0, shard=shard,
            gathered=lambda: marks.append((tmp_path / "done.json").exists()),
        )  # fmt: skip
    assert marks == [False]
    assert (tmp_path / "done.json").exists()
