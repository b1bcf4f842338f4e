"""Finished batches, step after step, made in this process or in worker processes with the same bits."""

import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.errors import UserError
from pipeline.sampling.augment import make_patch
from pipeline.sampling.draw import Draw, draw
from pipeline.sampling.index import Index
from pipeline.volume.intensity import Intensity

GRACE_S = 30  # a worker goes on for so long after SIGTERM; SIGALRM then ends it


@dataclass(frozen=True, eq=False)
class Batch:
    """What the network sees in one step: image float32 (B, 1, x, y, z), class indices uint8 (B, x, y, z), the draws."""

    image: torch.Tensor
    labels: torch.Tensor
    draws: tuple[Draw, ...]


def make_batch(
    index: Index, sample: SampleSection, augment: AugmentSection, intensity: Intensity, seed: int, step: int
) -> Batch:
    """Draw and make the patches of one step. It depends on the arguments alone.

    Raises UserError where a case cannot be read, RuntimeError where a finished patch lacks what its draw promises.
    """
    images = np.empty((sample.batch, 1, *sample.patch_vox), np.float32)
    labels = np.empty((sample.batch, *sample.patch_vox), np.uint8)
    draws = tuple(draw(index, sample, seed, step, slot) for slot in range(sample.batch))
    for slot, drawn in enumerate(draws):
        case = index.cases[drawn.case]
        images[slot, 0], labels[slot] = make_patch(case, drawn, sample.patch_vox, augment, intensity, index.labels)
    return Batch(torch.from_numpy(images), torch.from_numpy(labels), draws)


@dataclass(frozen=True, eq=False)
class Steps(Dataset):
    """The batches of steps `first_step` up to, not including, `last_step`, by position.

    A UserError is an item too: raised in a worker it would reach the user inside a traceback.
    """

    index: Index
    sample: SampleSection
    augment: AugmentSection
    intensity: Intensity
    seed: int
    first_step: int
    last_step: int

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __getitem__(self, position: int) -> Batch | UserError:
        step = self.first_step + position
        try:
            return make_batch(self.index, self.sample, self.augment, self.intensity, self.seed, step)
        except UserError as error:
            return error


def batches(
    index: Index,
    sample: SampleSection,
    augment: AugmentSection,
    intensity: Intensity,
    seed: int,
    first_step: int,
    last_step: int,
    workers: int,
) -> Iterator[Batch]:
    """Yield the batches of steps `first_step` up to, not including, `last_step`, in order; none where they are equal.

    The bits are the same with any number of workers and from any first step. workers: processes that prepare two
    batches each ahead; with 0 this process makes them when asked. Raises UserError where a case cannot be read or a
    worker dies.
    """
    steps = Steps(index, sample, augment, intensity, seed, first_step, last_step)
    loader = DataLoader(
        steps,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,  # a forked child inherits locks of threads it has not
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # its own: the loader would take a number from the training's
    )
    items = start_workers(loader)
    while True:
        try:
            item = next(items, None)
        except (RuntimeError, EOFError, OSError) as error:
            if not tells_death(error):
                raise
            raise UserError(
                f"sample.workers: one of {workers} loader processes died ({str(error) or 'its connection closed'}); "
                "expected all of them to live. Mostly memory, or /dev/shm, was full: run the same command again with "
                "fewer workers, such as sample.workers=0, or give the job more memory."
            ) from error
        if item is None:
            return
        if isinstance(item, UserError):
            raise item
        yield item


def start_workers(loader: DataLoader) -> Iterator[Batch | UserError]:
    """Start the worker processes of a loader.

    torch makes a worker's death raise in whatever the main thread does at that moment, a checkpoint being written
    included. Its signal handler is taken off again: a death then shows when the next batch is asked for.
    """
    if threading.current_thread() is not threading.main_thread():
        return iter(loader)
    handler = signal.getsignal(signal.SIGCHLD)
    items = iter(loader)
    signal.signal(signal.SIGCHLD, handler)
    return items


def tells_death(error: Exception) -> bool:
    """True where an error of a loader means that a worker has died.

    torch says so in words, but not before the process is reaped; until then its connections just break. No other
    EOFError or OSError comes out of a loader: a case that cannot be read raises UserError.
    """
    return isinstance(error, EOFError | OSError) or "DataLoader worker (pid" in str(error)


def start_worker(worker: int) -> None:
    """Set up a worker process: one thread, and it outlives the signals that ask the main process to stop.

    Those go to all processes of a terminal or a cluster's job, and the main one may need a batch until it has saved.
    SIGTERM ends a worker in the end: it is also what Python ends workers with that are left over when it exits.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
