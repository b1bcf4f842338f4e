"""Commands from the outside: what they print, what they import, and how they end."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import __version__, cli
from pipeline.config.config import Config
from pipeline.config.load import load
from pipeline.errors import Interrupted, Superseded, UserError
from pipeline.log import log
from pipeline.work import Outcome, Unit, run_units

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "monai", "nibabel", "scipy", "matplotlib", "SimpleITK", "tensorboard"}
Run = Callable[..., int]


@pytest.fixture
def run_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a stage, which does what is given, through the command line."""

    def run_stage(stage: Callable[..., Outcome], *words: str, work: Path | None = None) -> int:
        monkeypatch.setitem(sys.modules, "pipeline.stages.probe", SimpleNamespace(run=stage))
        return cli.main("probe", [f"work={work or tmp_path / 'work'}", *words])

    return run_stage


def in_store(config: Config) -> Outcome:
    """Make one file, as a stage does."""
    return run_units(config.work / "store", [Unit("a", "k", config.work / "store" / "a")], touch, workers=0)


def touch(unit: Unit, temporary: Path) -> None:
    temporary.touch()


def raising(error: BaseException) -> Callable[..., Outcome]:
    def stage(config: object) -> Outcome:
        raise error

    return stage


# Before a stage


@pytest.mark.parametrize("words", [["--help"], ["--print-config"], ["train.stepz=1"], ["nothing.yaml"], ["--version"]])
def test_nothing_heavy_is_imported_before_a_stage_runs(words: list[str]) -> None:
    code = f"import sys; from pipeline.cli import main; main('train', {words}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = done.stderr.splitlines()[-1].split()
    assert "pipeline.cli" in modules
    assert HEAVY & set(modules) == set()


@pytest.mark.parametrize("stage", cli.STAGES)
def test_scripts_work_from_any_folder(stage: str, tmp_path: Path) -> None:
    topic = list(cli.TOPICS.get(stage, {}))[:1]
    words = [*topic, ROOT / "configs" / "head_neck.yaml", "--print-config"]
    command = [sys.executable, ROOT / "scripts" / f"{stage}.py", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (tmp_path / "printed.yaml").write_text(done.stdout)
    assert load([str(tmp_path / "printed.yaml")]) == load([str(ROOT / "configs" / "head_neck.yaml")])
    assert [path.name for path in tmp_path.iterdir()] == ["printed.yaml"]


@pytest.mark.parametrize(
    ("stage", "words", "unbuffered"),
    [("train", ["--help"], ""), ("train", ["--help"], "1"), ("folds", ["--count", "configs/head_neck.yaml"], "1")],
)
def test_a_reader_that_has_enough_ends_a_command_without_a_word(
    stage: str, words: list[str], unbuffered: str, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # what `head` does once it has its lines
    command = [sys.executable, f"scripts/{stage}.py", *words, f"work={tmp_path}"]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize(("given", "used"), [(None, "passive"), ("active", "active")])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(
    given: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert cli.main("train", ["--version"]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == used


def test_help_of_a_look_names_its_topics_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main("doctor", ["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python scripts/doctor.py TOPIC [CONFIG.yaml] [key=value ...]")
    assert "data            read every case once" in shown and "--verify" in shown


@pytest.mark.parametrize(("words", "found"), [([], "nothing"), (["dta", "seed=1"], "'dta'"), (["seed=1"], "'seed=1'")])
def test_a_look_without_its_topic_says_which_there_are(
    words: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main("doctor", words) == 2
    assert f"doctor: found {found}, expected a topic first (data, net, run), as in: " in capsys.readouterr().err


def test_a_flag_of_another_command_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main("train", ["--verify"]) == 2
    expected = "--verify: unknown option; expected key=value, --help, --print-config or --version."
    assert expected in capsys.readouterr().err


def test_help_names_usage_options_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main("train", ["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python scripts/train.py [CONFIG.yaml] [key=value ...]")
    assert "--print-config" in shown and "steps: optimiser steps; a whole number of at least 1 [1000]" in shown


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main("train", ["--version"]) == 0
    assert capsys.readouterr().out == f"hounsfield {__version__}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train.stepz=1"], "error: train.stepz: unknown key; did you mean train.steps?\n"),
        (["--stepz", "5"], "error: --stepz: unknown option; expected key=value"),
    ],
)
def test_a_wrong_command_ends_with_2_and_touches_nothing(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main("train", words) == 2
    assert capsys.readouterr().err.startswith(sentence)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["--version"], 0, f"hounsfield {__version__}", ""),
        (["--help"], 0, "prepare   bring every case", ""),
        (["evaluate", "--help"], 0, "scripts/evaluate.py", ""),
        (["trian"], 2, "", "error: 'trian' is no stage; expected one of plan, prepare, train"),
        ([], 2, "", "error: no stage is named"),
    ],
)
def test_the_installed_command_takes_the_stage_first(
    words: list[str], code: int, out: str, err: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hounsfield", *words])
    assert cli.entry() == code
    shown = capsys.readouterr()
    assert out in shown.out and err in shown.err


def test_a_python_without_the_libraries_gets_a_sentence() -> None:
    command = [sys.executable, "-I", "-S", str(ROOT / "scripts" / "train.py")]  # -S: no installed packages
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the library ")
    assert "scripts/env.sh" in done.stderr and "Traceback" not in done.stderr


# Around a stage


def test_the_stage_gets_the_config_and_its_outcome_decides_the_exit_code(run_stage: Run, tmp_path: Path) -> None:
    seen = []

    def stage(config: object) -> Outcome:
        seen.append(config)
        return Outcome(done=("a",))

    assert run_stage(stage, "train.steps=77") == 0
    assert seen == [load([f"work={tmp_path / 'work'}", "train.steps=77"])]


def test_failed_units_are_named_with_the_way_to_leave_them_out(
    run_stage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"hn_003": "hn_003.nii.gz: holds NaN.", "disk": "no space", "my case": "why"}
    outcome = Outcome(("a", "b"), ("c",), failed, frozenset({"disk"}))
    assert run_stage(lambda config: outcome, "data.exclude=[old]") == 1
    shown = capsys.readouterr().err
    assert "probe: 2 made, 1 already there, 3 failed\n" in shown
    assert "error: 3 failed: hn_003, disk, my case\nmend" in shown
    assert shown.endswith("leave out what cannot be mended: 'data.exclude=[old, hn_003, my case]'\n")


def test_what_the_machine_failed_is_not_to_be_left_out(run_stage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run_stage(lambda config: Outcome(failed={"a": "no space"}, by_machine=frozenset({"a"})))
    assert capsys.readouterr().err.endswith("mend what is named above and run the same command again\n")


def test_a_refused_command_makes_no_folder(run_stage: Run, tmp_path: Path) -> None:
    assert run_stage(raising(UserError("no"))) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_changes_no_exit_code(
    run_stage: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stage(config: object) -> Outcome:
        log.info("at work")
        raise UserError("a.nii: holds NaN.")

    (tmp_path / "work" / "log").mkdir(parents=True)
    (tmp_path / "work" / "log" / "probe.log").symlink_to("/dev/full")
    assert run_stage(stage) == 2
    shown = capsys.readouterr().err
    assert shown.endswith("error: a.nii: holds NaN.\n") and "Traceback" not in shown


def test_a_command_without_any_config_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main("train", []) == 2
    assert capsys.readouterr().err.endswith("no config was given: every key has its default; see --help\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("a.nii: holds NaN; repair it."), 2, "error: a.nii: holds NaN; repair it.\n"),
        (OSError(errno.ENOSPC, "x", "/a/b"), 2, "error: /a/b: no space left on device; free some space"),
        (MemoryError(), 2, "error: not enough memory"),
        (ModuleNotFoundError("x", name="torch"), 2, "error: the library torch is missing"),
        (Interrupted(), 75, "interrupted; run the same command again to continue\n"),
        (Superseded("a is taken over by process 1 on b"), 75, "a is taken over by process 1 on b.\n"),
        (KeyboardInterrupt(), 75, "interrupted; run the same command again to continue\n"),
        (ZeroDivisionError("inner"), 3, "internal error: ZeroDivisionError: inner\n"),
    ],
)
def test_what_a_stage_raises_becomes_a_sentence_and_a_code(
    error: BaseException, code: int, sentence: str, run_stage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage(raising(error)) == code
    shown = capsys.readouterr().err
    assert shown.startswith(sentence)
    assert "Traceback" not in shown


def test_an_interrupted_restart_is_not_to_be_restarted(run_stage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_stage(raising(Interrupted()), "train.restart=true") == 75
    assert "continue, without train.restart=true, which would begin anew\n" in capsys.readouterr().err


def test_a_run_that_was_taken_over_is_told_apart_where_75_would_bring_it_back(
    run_stage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUNSFIELD_REQUEUES", "1")
    assert run_stage(raising(Superseded("a is taken over"))) == 76
    assert run_stage(raising(Interrupted())) == 75


def test_a_full_disk_in_a_thread_of_a_library_shows_no_traceback(
    run_stage: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # what the command sets ends with the test

    def stage(*_: object) -> Outcome:
        for error in (OSError(errno.ENOSPC, "x"), ZeroDivisionError("mine")):
            thread = threading.Thread(target=raising(error), args=(None,))
            thread.start()
            thread.join()
        return Outcome()

    assert run_stage(stage) == 0
    shown = capsys.readouterr().err
    assert "ZeroDivisionError: mine" in shown and "OSError" not in shown


def test_the_traceback_of_an_internal_error_is_in_the_log_file(
    run_stage: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stage(raising(ZeroDivisionError("inner")))
    file = tmp_path / "work" / "log" / "probe.log"
    assert str(file) in capsys.readouterr().err
    text = file.read_text()
    assert "Traceback" in text and "ZeroDivisionError: inner" in text and "command: probe work=" in text


def test_a_stage_that_is_not_there_is_an_internal_error(tmp_path: Path) -> None:
    assert cli.main("no_such_stage", [f"work={tmp_path}"]) == 3


@pytest.mark.parametrize("place", ["file/work", "file"])
def test_a_work_folder_that_cannot_be_made_gets_its_sentence(
    place: str, run_stage: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run_stage(in_store, work=tmp_path / place) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: work: ") and "a file stands where a folder is expected" in shown


@pytest.fixture
def no_root() -> Iterator[None]:
    """Give up root's right to write anywhere while a test runs."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    if user == 0:
        os.seteuid(0)


@pytest.fixture
def read_only() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        yield Path(folder)
        Path(folder).chmod(0o755)


def test_a_read_only_work_folder_gets_its_sentence(
    run_stage: Run, read_only: Path, no_root: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage(in_store, work=read_only) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {read_only}/store: permission denied; change its permissions, or choose another")
