"""What is said where: console, log file, progress and tables."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import log

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _stopped_afterwards() -> Iterator[None]:
    yield
    log.stop()


def test_the_console_has_lines_as_they_are_and_a_word_before_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    log.start()
    log.log.debug("unseen")
    log.log.info("step %d [bold] of /a/very/long/path/%s", 5, "x" * 200)
    log.log.warning("careful")
    log.log.error("broken")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"step 5 [bold] of /a/very/long/path/{'x' * 200}\nwarning: careful\nerror: broken\n"


@pytest.mark.parametrize("reader", ["true", "head -c 1 > /dev/null", "exec > /dev/full; cat"])
def test_a_line_that_nobody_reads_does_not_end_the_command(reader: str, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pipeline import log; log.start(Path('all.log'))\n"
        "for line in range(200): log.log.info('line %d %s', line, 'x' * 4096)\n"
        "Path('end').touch()"
    )
    (tmp_path / "code.py").write_text(code)
    shell = f"PYTHONPATH={ROOT} {sys.executable} code.py 2>&1 | ({reader})"
    subprocess.run(["bash", "-c", shell], cwd=tmp_path, stderr=subprocess.DEVNULL, timeout=60)
    assert (tmp_path / "end").exists()
    assert (tmp_path / "all.log").read_text().count("\n") == 200


def test_the_console_of_a_full_disk_does_not_end_the_command(tmp_path: Path) -> None:
    code = "from pipeline import log; log.start(); log.log.info('a line'); log.log.info('another'); print('end')"
    shell = f'PYTHONPATH={ROOT} {sys.executable} -c "{code}" 2> /dev/full'
    assert subprocess.run(["bash", "-c", shell], capture_output=True, text=True).stdout == "end\n"


def test_the_file_has_everything_with_tracebacks_and_is_continued(tmp_path: Path) -> None:
    file = tmp_path / "log" / "train.log"
    for run in ("first", "second"):
        log.start(file)
        log.log.debug("%s run äö", run)
        try:
            raise KeyError("inside")
        except KeyError:
            log.log.debug("stopped by:", exc_info=True)
        log.log.info("shown")
        log.stop()
    text = file.read_text(encoding="utf-8")
    assert text.index("first run äö") < text.index("second run äö")
    assert text.count("Traceback") == 2


def test_the_file_is_made_when_something_is_shown_and_has_what_came_before(tmp_path: Path) -> None:
    log.start(tmp_path / "work" / "train.log")
    log.log.debug("before")
    assert list(tmp_path.iterdir()) == []
    log.log.warning("careful")
    lines = (tmp_path / "work" / "train.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["DEBUG before", "WARNING careful"]


def test_a_full_disk_ends_the_file_with_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "train.log"
    file.symlink_to("/dev/full")
    log.start(file)
    for step in (1, 2):
        log.log.info("step %d", step)
    log.stop()
    warning = f"warning: {file}: no space left on device; this log file is not written on"
    assert capsys.readouterr().err.splitlines() == ["step 1", warning, "step 2"]


def test_starting_again_does_not_say_things_twice(capsys: pytest.CaptureFixture[str]) -> None:
    log.start()
    log.start()
    log.log.info("once")
    assert capsys.readouterr().err == "once\n"


def test_progress_off_a_terminal_is_the_first_and_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.start(tmp_path / "log")
    with log.progress(4, "prepare") as advance:
        for name in ("a", "b", "c", "d"):
            advance(name)
    assert capsys.readouterr().err == "prepare 1/4 (a)\nprepare 4/4 (d)\n"
    assert "prepare 3/4 (c)" in (tmp_path / "log").read_text()


def test_progress_says_something_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "PROGRESS_LINE_EVERY_S", 0.0)
    log.start()
    with log.progress(3, "infer") as advance:
        for _ in range(3):
            advance("")
    assert capsys.readouterr().err == "infer 1/3\ninfer 2/3\ninfer 3/3\n"


def test_progress_over_nothing_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log.start()
    with log.progress(0, "prepare"):
        pass
    assert capsys.readouterr().err == ""


def test_on_a_terminal_progress_is_a_bar_and_messages_stay_readable(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    code = (
        "from pipeline import log; log.start()\n"
        "with log.progress(2, 'prepare') as advance:\n"
        "    advance('hn_001'); log.log.warning('in between'); advance('hn_002')\n"
        "log.table('scores', ['class', 'Dice'], [['Mandible', 0.9]])\n"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=theirs, stderr=theirs, env=environment) as run:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    assert run.returncode == 0
    text = shown.decode()
    assert "2/2" in text and "━" in text and "hn_002" in text
    assert "warning: in between" in text
    assert "│ Mandible │  0.9 │" in text


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the other end of a terminal is closed
        return b""


def test_a_table_off_a_terminal_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    log.table("scores", ["class", "Dice", "n"], [["Mandible", "0.912", 4], ["Cord", "0.7", 12]])
    assert capsys.readouterr().out.splitlines() == [
        "scores",
        "class      Dice   n",
        "Mandible  0.912   4",
        "Cord        0.7  12",
    ]


def test_a_table_without_rows_is_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    log.table("scores", ["class", "Dice"], [])
    assert capsys.readouterr().out.splitlines() == ["scores", "class  Dice"]


def test_kept_messages_are_handed_over_once(capsys: pytest.CaptureFixture[str]) -> None:
    kept = log.keep()
    log.log.warning("from %s", "far")
    assert kept.take() == [(30, "from far")]
    assert kept.take() == []
    assert capsys.readouterr().err == ""


def test_what_is_overheard_is_kept_and_shown_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.start(tmp_path / "doctor.log")
    with log.overhear() as heard:
        log.log.warning("inside %d", 1)
    log.log.info("after")
    assert [message for _, message in heard.take()] == ["inside 1"]
    assert capsys.readouterr().err == "after\n"
    assert "inside" not in (tmp_path / "doctor.log").read_text()


def test_what_logs_is_shown_again_after_an_error_while_overhearing(capsys: pytest.CaptureFixture[str]) -> None:
    log.start()
    with pytest.raises(KeyError), log.overhear():
        raise KeyError
    log.log.info("after")
    assert capsys.readouterr().err == "after\n"


def test_a_table_of_sentences_is_wrapped_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/data/" + "x" * 150
    log.prose_table("errors", ("case", "found"), [["a [b]", "word " * 60], ["c", path]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "errors"
    assert lines[1].split() == ["case", "found"]
    assert lines[-1] == ""
    assert max(map(len, lines)) <= log.PROSE_COLUMNS
    assert all(line == line.rstrip() for line in lines)
    text = "".join(lines)
    assert text.count("word") == 60
    assert "a [b]" in text and path in "".join(text.split())
