"""Finished batches, step after step, made in this process or in worker processes with the same bits."""

from collections.abc import Iterator, Sequence
from functools import partial

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.errors import UserError
from pipeline.log import log
from pipeline.sampling.batch import Batch, make_batch, slots_of
from pipeline.sampling.index import Index
from pipeline.sampling.worker import Make, Worker, WorkerDied
from pipeline.volume.intensity import Intensity

AHEAD = 2  # batches that each worker may have finished before they are asked for
DEATHS_BORNE = 2


def batches(
    index: Index, sample: SampleSection, augment: AugmentSection, intensity: Intensity, seed: int, first_step: int,
    last_step: int, workers: int, *, rank: int = 0, ranks: int = 1, pinned: bool = False,
) -> Iterator[Batch]:  # fmt: skip
    """Yield the batches of steps `first_step` up to, not including, `last_step`, in order; none where they are equal.

    The bits are the same with any number of workers and from any first step; those of all ranks together are those of
    one. workers: processes that prepare two batches each ahead; with 0 this process makes them when asked. A worker
    that is killed is replaced, which a patch that depends on its key alone allows, and a warning names what it made.
    pinned: whether workers hand batches over in page-locked memory.
    Raises UserError where a case cannot be read, workers die repeatedly, or a batch does not divide among the ranks;
    RuntimeError, with worker, patch and case, for any other error in a worker.
    """
    make = partial(make_batch, index, sample, augment, intensity, seed, slots=slots_of(sample.batch, rank, ranks))
    steps = range(first_step, last_step)
    return from_workers(make, steps, workers, pinned=pinned) if workers else map(make, steps)


def from_workers(make: Make, steps: Sequence[int], workers: int, *, pinned: bool = False) -> Iterator[Batch]:
    """Yield make(step) for each of `steps`: with n workers, each makes every n-th. Closing it ends the processes."""
    crew: list[Worker] = []
    deaths = 0
    try:
        for number in range(min(workers, len(steps))):
            first = steps[number::workers][:AHEAD]
            crew.append(Worker(f"worker {number + 1} of {workers}", make, first, pinned=pinned))
        for position in range(len(steps)):
            number = position % workers
            while True:
                try:
                    batch = crew[number].take()
                    break
                except WorkerDied as death:
                    deaths += 1
                    crew[number] = replacement(crew[number], death, deaths)
            following = position + AHEAD * workers
            if following < len(steps):
                crew[number].ask(steps[following])
            yield batch
    finally:
        for worker in crew:
            worker.stop()


def replacement(worker: Worker, death: WorkerDied, deaths: int) -> Worker:
    """Return a new worker that makes what a dead one has left; raises UserError where too many have died already."""
    worker.stop()
    if deaths > DEATHS_BORNE:
        raise UserError(
            f"sample.workers: {death}, after {DEATHS_BORNE} had ended before it; expected all of them to live. "
            "Mostly memory is short: run the same command again with fewer workers, such as sample.workers=0, or give "
            "the job more memory. After SIGBUS a file of the store is shorter than it was, or its disk fails: run "
            "prepare."
        ) from death
    log.warning("%s; another one takes its place and makes the same batch", death)
    return Worker(worker.name, worker.make, tuple(worker.steps), pinned=worker.pinned)
