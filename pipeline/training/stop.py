"""Being asked to stop: Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP set a flag that the run looks at between steps.

Nothing is logged where a signal is caught: it may have come while a line was being written, and Python ends a program
that writes to a stream from within a write to it.
"""

import os
import select
import signal
import threading
from types import FrameType
from typing import Any

from pipeline.errors import ASKED_BY

OF_A_TERMINAL = (signal.SIGINT, signal.SIGHUP)  # Ctrl-C, and a terminal or ssh session that has ended
OUTPUTS = (1, 2)


class StopRequest:
    """Within `with`, signals are noted instead of acted on; a second Ctrl-C ends the program at once.

    One that is ignored stays so, see `heard`. Only a main thread receives signals: in another one, such as a
    notebook's, this does nothing.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in heard()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
        if number == signal.SIGHUP:
            leave_closed_outputs()


def heard() -> list[signal.Signals]:
    """Return the signals that ask a command to end, without those of a terminal that it was started to ignore.

    A shell script starts what it puts into the background with SIGINT ignored, and nohup what it runs with SIGHUP.
    """
    return [number for number in ASKED_BY if number not in OF_A_TERMINAL or signal.getsignal(number) != signal.SIG_IGN]


def leave_closed_outputs() -> None:
    """Send stdout and stderr to nowhere where their terminal is closed, or nobody reads them any more.

    Each line that is written there would raise an error, which must not end a run that is about to save its state.
    """
    state = select.poll()
    for output in OUTPUTS:
        state.register(output, 0)  # an error is told without being asked for
    closed = [output for output, event in state.poll(0) if event & (select.POLLHUP | select.POLLERR)]
    if closed:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for output in closed:
            os.dup2(nowhere, output)
        os.close(nowhere)
