"""What a command says: lines on the console and in a log file, progress and tables."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

log = logging.getLogger("hounsfield")

PROGRESS_LINE_EVERY_S = 10.0
PROSE_COLUMNS = 140  # of text that is wrapped for a file or a pipe, which has no width of its own
STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}
PREFIXES = {logging.WARNING: "warning: ", logging.ERROR: "error: ", logging.CRITICAL: "internal error: "}


class _Console(Console):
    """A console that falls silent where what read it has ended, as `tee` does by Ctrl-C; rich would end the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


_console = _Console(stderr=True)  # shared, so that log lines appear above a progress bar and not inside it


class ConsoleHandler(logging.Handler):
    """Writes records to stderr: coloured on a terminal, plain unwrapped lines elsewhere."""

    def emit(self, record: logging.LogRecord) -> None:
        text = Text(PREFIXES.get(record.levelno, "") + record.getMessage(), style=STYLES.get(record.levelno, ""))
        try:
            _console.print(text, soft_wrap=True)
        except OSError:  # the terminal is closed, or the disk of the file that it goes to is full
            _console.quiet = True


class FileHandler(logging.Handler):
    """Appends records to a file, which is made, with its folder, at the first one that the console shows as well.

    A refused command thus leaves no folder behind. Where the disk refuses the file, one warning says so and no more is
    written: the log must not end a command, nor hide why it ended.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.held: list[str] = []
        self.wanted = False
        self.refused = False
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if self.refused:
            return
        self.held.append(self.format(record) + "\n")
        self.wanted = self.wanted or record.levelno >= logging.INFO
        if not self.wanted:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Closed each time: a full disk may refuse the bytes only then.
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(self.held)
        except OSError as error:
            self.refused = True
            log.warning("%s: %s; this log file is not written on", self.path, (error.strerror or str(error)).lower())
        self.held.clear()


def start(file: Path | None = None, rank: int = 0) -> None:
    """Send the log to the console and, where `file` is given, to the end of that file.

    The console shows progress, warnings and errors; the file also holds debug records and tracebacks. Of several
    processes that train together the first one does so, and the others show errors alone. A second call replaces what
    the first one set up.
    """
    stop()
    log.setLevel(logging.DEBUG)
    log.addHandler(ConsoleHandler(logging.INFO if rank == 0 else logging.ERROR))
    if file is not None and rank == 0:
        log.addHandler(FileHandler(file))


def stop() -> None:
    """Close what `start` opened."""
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


class Kept(logging.Handler):
    """Keeps messages instead of showing them."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append((record.levelno, record.getMessage()))

    def take(self) -> list[tuple[int, str]]:
        """Return level and text of each message since the last call."""
        taken, self.messages = self.messages, []
        return taken


def keep() -> Kept:
    """Keep what is logged from now on: for a worker process, whose parent shows it."""
    stop()
    log.setLevel(logging.DEBUG)
    kept = Kept()
    log.addHandler(kept)
    return kept


@contextmanager
def overhear() -> Iterator[Kept]:
    """Keep what is logged meanwhile instead of showing it."""
    kept, others = Kept(), list(log.handlers)
    log.handlers[:] = [kept]
    try:
        yield kept
    finally:
        log.handlers[:] = others


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[str], None]]:
    """Show how many of `total` things are finished; call what this yields once for each, with an optional note.

    A bar on a terminal. Elsewhere lines such as "prepare 3/12 (hn_004)": the first, the last, and between them at
    most one every 10 s. The log file has all of them. Nothing is shown where `total` is 0.
    """
    if total and _console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=_console) as bar:
            task = bar.add_task(what, total=total, note="")

            def advance(note: str = "") -> None:
                bar.update(task, advance=1, note=note)
                log.debug("%s %.0f/%d (%s)", what, bar.tasks[0].completed, total, note)

            yield advance
    else:
        yield _progress_lines(total, what)


def _progress_lines(total: int, what: str) -> Callable[[str], None]:
    """Return an `advance` that writes a line now and then."""
    finished = 0
    last_line_s = float("-inf")

    def advance(note: str = "") -> None:
        nonlocal finished, last_line_s
        finished += 1
        now_s = time.monotonic()
        shown = finished == total or now_s - last_line_s >= PROGRESS_LINE_EVERY_S
        if shown:
            last_line_s = now_s
        level = logging.INFO if shown else logging.DEBUG
        log.log(level, "%s %d/%d%s", what, finished, total, f" ({note})" if note else "")

    return advance


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names as a list that stays short; "" where there is none."""
    shown = list(names)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def by(values: Iterable[float], form: str = "g") -> str:
    """Return numbers along x, y, z in words, such as "3.9 x 3.9 x 2.5"."""
    return " x ".join(format(value, form) for value in values)


def answer(value: object) -> None:
    """Print a value on a line of its own to stdout, for a script to read."""
    print(value)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout: ruled on a terminal, aligned plain text elsewhere.

    The first column is aligned to the left, the others to the right. Without rows only the head is printed.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        ruled = Table(title=Text(title))
        for position, column in enumerate(columns):
            ruled.add_column(Text(column), justify="left" if position == 0 else "right")
        for row in cells:
            ruled.add_row(*(Text(cell) for cell in row))
        Console().print(ruled)
        return
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    print(title)
    for first, *others in [list(columns), *cells]:
        aligned = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *aligned]).rstrip())


def prose_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of sentences to stdout, aligned to the left and wrapped: to the terminal, elsewhere to 140 columns.

    A blank line follows it.
    """
    on_terminal = sys.stdout.isatty()
    heads = [Column(Text(column), overflow="fold") for column in columns]
    ruled = Table(
        *heads, title=Text(title), title_justify="left", box=SIMPLE if on_terminal else None, pad_edge=False, leading=1
    )
    for row in rows:
        ruled.add_row(*map(Text, row))
    console = Console(width=None if on_terminal else PROSE_COLUMNS)
    with console.capture() as captured:
        console.print(ruled)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")
