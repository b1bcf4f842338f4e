"""A process that makes batches for this one.

A finished batch comes over a pipe, and is read straight into the arrays that training gets. Shared memory is not used:
containers have 64 MB of /dev/shm, and anonymous files, which escape that limit, were slower (docs/log.md).
"""

import atexit
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple

import numpy as np
import torch

from pipeline.errors import UserError
from pipeline.log import keep, log
from pipeline.processes import spawning
from pipeline.sampling.batch import Batch
from pipeline.sampling.draw import Draw

LONGEST_SILENCE_S = 300.0  # no patch takes as long, nor does starting a process from a slow network drive
ENDING_S = 10.0  # a killed process is gone at once, unless it hangs in a disk's driver

Make = Callable[..., Batch]
Messages = list[tuple[int, str]]


class WorkerDied(Exception):
    """A worker is gone. The message says which one, how it ended, and what it had in hand."""


class Made(NamedTuple):
    """Announces the arrays of a batch, which follow as bare bytes: float32 image, uint8 labels. messages: its log."""

    image_shape: tuple[int, ...]
    labels_shape: tuple[int, ...]
    draws: tuple[Draw, ...]
    messages: Messages


class Failed(NamedTuple):
    """Why a batch could not be made. by_user: whether it is a UserError's sentence. messages: its log."""

    sentence: str
    by_user: bool
    messages: Messages


class Worker:
    """A spawned process that makes one batch after the other, in the order in which they are asked for.

    name: what messages call it. make: called there as make(step, tell=...), see `make_batch`; picklable.
    steps: the first ones to make. pinned: whether batches come in page-locked memory, which a GPU fetches by itself.
    """

    def __init__(self, name: str, make: Make, steps: Sequence[int], *, pinned: bool = False) -> None:
        context = get_context("spawn")  # a forked child inherits locks of threads that it does not have
        self.name, self.make, self.pinned = name, make, pinned
        self.steps = deque(steps)  # asked for and not taken
        self.in_hand: Draw | None = None
        self.heard_s = time.monotonic()
        self.arrived: SimpleQueue[Batch | Exception] = SimpleQueue()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        with spawning(threads=1):
            self.process.start()
        theirs.close()  # the end of the process then shows as the end of the pipe
        self.receiver = Thread(target=self._receive, args=(tuple(steps),), daemon=True)
        self.receiver.start()
        # When Python exits, multiprocessing sends SIGTERM, which is blocked, and waits: this comes before it.
        atexit.register(self.stop)

    def ask(self, step: int) -> None:
        """Ask for one more batch; not before the first one was taken."""
        self.steps.append(step)
        self.heard_s = time.monotonic()
        with suppress(OSError):  # the process is dead: `take` finds out
            self.connection.send(step)

    def take(self) -> Batch:
        """Return the batch of the first of `steps`, and drop that step.

        Raises WorkerDied, UserError as the worker raised it, or RuntimeError for any other error of the worker.
        """
        while True:
            with suppress(Empty):
                item = self.arrived.get(timeout=1.0)
                break
            if time.monotonic() - self.heard_s > LONGEST_SILENCE_S:
                self.process.kill()
                raise WorkerDied(f"{self} was silent for {LONGEST_SILENCE_S:.0f} s and was stopped {self._doing()}")
        if isinstance(item, Exception):
            raise item
        self.steps.popleft()
        return item

    def stop(self) -> None:
        """End the process at once."""
        atexit.unregister(self.stop)
        self.process.kill()
        self.process.join(ENDING_S)
        self.receiver.join(ENDING_S)
        self.connection.close()

    def __str__(self) -> str:
        return f"{self.name} (process {self.process.pid})"

    def _receive(self, steps: Sequence[int]) -> None:
        """Hand over the task, then take what comes; runs in a thread, so that training does not wait for the bytes."""
        try:
            self.connection.send(self.make)  # from here: it blocks until the process has started
            for step in steps:
                self.connection.send(step)
            while True:
                self._take_message(self.connection.recv())
        except (EOFError, OSError):
            self.process.join(ENDING_S)
            self.arrived.put(WorkerDied(f"{self} {ending_of(self.process.exitcode)} {self._doing()}"))
        except Exception as error:
            self.arrived.put(error)

    def _take_message(self, message: Draw | Made | Failed | None) -> None:
        self.heard_s = time.monotonic()
        if message is None or isinstance(message, Draw):
            self.in_hand = message
            return
        for level, text in message.messages:
            log.log(level, text)
        if isinstance(message, Failed):
            kind = UserError if message.by_user else RuntimeError
            self.arrived.put(kind(message.sentence if message.by_user else f"{self}: {message.sentence}"))
            return
        images = torch.empty(message.image_shape, dtype=torch.float32, pin_memory=self.pinned)
        labels = torch.empty(message.labels_shape, dtype=torch.uint8, pin_memory=self.pinned)
        for tensor in (images, labels):
            read_into(self.connection.fileno(), tensor.numpy())
        self.arrived.put(Batch(images, labels, message.draws))

    def _doing(self) -> str:
        """Say what the process has, or had, in hand."""
        if self.in_hand is None:
            return "with no patch in hand"
        _, step, slot = self.in_hand.key
        return f"while it made slot {slot} of step {step} from case {self.in_hand.case}"


def ending_of(code: int | None) -> str:
    """Return in words how a process ended, by its exit code as multiprocessing gives it."""
    if code is None:
        return "closed its connection"
    names = {number.value: number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"ended with code {code}"


def serve(connection: Connection) -> None:
    """Make the batches that are asked for until the pipe closes, as it does when the parent ends, however it ends.

    Runs in the worker process. Signals that ask a run to stop go to all processes of a terminal or a job, and the
    parent needs batches until it has saved its state: they are blocked since this process was spawned.
    """
    torch.set_num_threads(1)
    kept = keep()
    with suppress(EOFError, OSError):
        make = connection.recv()
        while True:
            step = connection.recv()
            try:
                batch = make(step, tell=connection.send)
            except Exception as error:
                if not isinstance(error, UserError):
                    log.debug("%s", "".join(traceback.format_exception(error)))
                connection.send(Failed(str(error), isinstance(error, UserError), kept.take()))
                continue
            connection.send(Made(tuple(batch.image.shape), tuple(batch.labels.shape), batch.draws, kept.take()))
            for tensor in (batch.image, batch.labels):
                write_all(connection.fileno(), tensor.numpy())


def write_all(descriptor: int, array: np.ndarray) -> None:
    """Write the bytes of a contiguous array to a pipe."""
    left = array.data.cast("B")
    while left:
        left = left[os.write(descriptor, left) :]


def read_into(descriptor: int, array: np.ndarray) -> None:
    """Fill a contiguous array with bytes from a pipe; raises EOFError where it ends before."""
    left = array.data.cast("B")
    while left:
        count = os.readv(descriptor, [left])
        if count == 0:
            raise EOFError
        left = left[count:]
