"""Being asked to stop: Ctrl-C, SIGTERM and SIGUSR1 set a flag that the run looks at between steps.

Nothing is logged where a signal is caught: it may have come while a line was being written, and Python ends a program
that writes to a stream from within a write to it.
"""

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Within `with`, signals are noted instead of acted on; a second Ctrl-C ends the program at once.

    Only a main thread receives signals: in another one, such as a notebook's, this does nothing.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
