"""Several processes that train one network: what they tell each other.

Rank 0 alone writes. Every method is called by all ranks in the same order, and does next to nothing where there is one.
"""

import atexit
import gc
import json
import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import Context
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import _abort_process_group
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import Interrupted, UserError
from pipeline.ranks import Rank

MEETING = timedelta(seconds=60)  # for all ranks to come; a node that is still being started must not hold the others
SILENCE = timedelta(minutes=30)  # one rank may validate a large volume while the others wait
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
ALONE = Rank()
CPU = torch.device("cpu")
REASON, REASON_WAIT = "reason", timedelta(seconds=5)  # where the first to fail leaves its reason; for it to be read
UNKNOWN = (
    "another process of this run has ended without leaving a reason, as one does that is killed, perhaps for want of "
    "memory: see what it, and the system that started it, have said"
)
GO_ON = "mend that, and the same command goes on after the last state that was saved."
LINGERING = 1.0  # seconds that a thread of Gloo may take to drop what it has done
LOST = re.compile(r"gloo|NCCL|Connection (closed|reset)|Broken pipe", re.IGNORECASE)  # of what torch says


class Ranks:
    """This process among those that train together; `Ranks()` is one that is alone."""

    def __init__(self, rank: Rank = ALONE, device: torch.device = CPU) -> None:
        self.number, self.count, self.device = rank.number, rank.count, device

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on at least one rank."""
        return flag if self.count == 1 else bool(self.largest(torch.tensor([float(flag)])).item())

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over ranks of float values, on the CPU."""
        return self._reduced(values, distributed.ReduceOp.SUM) / self.count

    def largest(self, values: Tensor) -> Tensor:
        """Return the largest over ranks of values, on the CPU."""
        return self._reduced(values, distributed.ReduceOp.MAX)

    def _reduced(self, values: Tensor, operation: Any) -> Tensor:
        if self.count == 1:
            return values.cpu()
        real = torch.float64 if self.device.type == "cpu" else torch.float32
        sent = values.to(self.device, real if values.is_floating_point() else values.dtype, copy=True)
        distributed.all_reduce(sent, operation)
        return sent.cpu()

    def gather(self, value: Any) -> list[Any]:
        """Return a JSON value of every rank, in their order."""
        if self.count == 1:
            return [value]
        mine = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(self.device)
        length = int(self.largest(torch.tensor([len(mine)])).item())
        sent = torch.full((length,), ord(" "), dtype=torch.uint8, device=self.device)  # JSON may end in spaces
        sent[: len(mine)] = mine
        received = [torch.empty_like(sent) for _ in range(self.count)]
        distributed.all_gather(received, sent)
        return [json.loads(bytes(each.cpu().tolist())) for each in received]

    def of_first(self, value: Any) -> Any:
        """Return the JSON value of rank 0."""
        return self.gather(value)[0]

    def take_buffers(self, net: nn.Module) -> None:
        """Give every rank the buffers of rank 0, such as a batch norm's statistics: each step begins with these."""
        for buffer in net.buffers() if self.count > 1 else ():
            distributed.broadcast(buffer, 0)

    def wrap(self, net: nn.Module, *, all_used: bool = True) -> nn.Module:
        """Return the network in the form whose backward pass leaves every rank with the mean of all gradients.

        all_used: False where some parameters get no gradient; finding out which takes a little of every step.
        """
        if self.count == 1:
            return net
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=devices, find_unused_parameters=not all_used)

    def apart(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which backward passes add to each rank's own gradients: more of the batch is to come."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()


NOBODY_ELSE = Ranks()


@contextmanager
def joined(rank: Rank, device: torch.device) -> Iterator[Ranks]:
    """Meet the other ranks, and part from them at the end; a process that is alone meets nobody.

    Ranks speak by NCCL where the device is a GPU, else by Gloo. Raises UserError where the place to meet is not given,
    or the others do not come within a minute.
    """
    if rank.count == 1:
        yield Ranks(rank, device)
        return
    lacking = [name for name in ADDRESS if not os.environ.get(name)]
    if lacking:
        raise UserError(
            f"{' and '.join(lacking)}: not set, but this is process {rank.number} of {rank.count}; torchrun sets them, "
            "and for srun scripts/slurm/train.sbatch does."
        )
    place = ":".join(os.environ[name] for name in ADDRESS)
    backend = "nccl" if device.type == "cuda" else "gloo"
    prefix = None
    try:
        store = distributed.TCPStore(
            os.environ[ADDRESS[0]], int(os.environ[ADDRESS[1]]), rank.count, rank.number == 0 and not agent_has_store(),
            timeout=MEETING,
        )  # fmt: skip
        prefix = distributed.PrefixStore(f"hounsfield/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        distributed.init_process_group(
            backend, store=prefix, rank=rank.number, world_size=rank.count, timeout=SILENCE,
            device_id=device if backend == "nccl" else None,
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        reason = prefix and reason_left(prefix)
        if reason:
            raise UserError(f"{reason}; {GO_ON}") from error
        raise UserError(
            f"process {rank.number} of {rank.count} did not meet the others at {place} within {MEETING.seconds} s "
            f"({str(error).splitlines()[0]}); start all of them, and let the machines reach each other."
        ) from error
    if backend == "gloo":
        atexit.register(wait_for_threads, contexts_alive())
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # of 1x1x1 kernels, the same
    failed = True
    try:
        yield Ranks(rank, device)
        failed = False
    except Exception as error:
        if not is_lost(error):
            leave_reason(prefix, rank, error)
            raise
        raise UserError(f"{reason_left(prefix) or UNKNOWN}; {GO_ON}") from error
    finally:
        if failed and backend == "nccl":
            _abort_process_group()  # the other way waits for what the others will never answer
        else:
            distributed.destroy_process_group()


def contexts_alive() -> int:
    """Return how many contexts of Python's `contextvars` there are; every backward pass makes one."""
    return sum(type(each) is Context for each in gc.get_objects())


def wait_for_threads(contexts: int) -> None:
    """Wait, for a second at most, until the threads of Gloo hold no more contexts of backward passes.

    For the end of Python: a thread that drops its last one after that makes the process abort, though all is done, and
    `DistributedDataParallel` keeps these threads for as long as there is a process (PyTorch's issue 190489).
    """
    until = time.monotonic() + LINGERING
    while contexts_alive() > contexts and time.monotonic() < until:
        time.sleep(0.001)


def is_lost(error: BaseException) -> bool:
    """True for what torch raises where another process is gone."""
    return isinstance(error, RuntimeError) and LOST.search(str(error)) is not None


def leave_reason(store: distributed.Store, rank: Rank, error: Exception) -> None:
    """Tell the others why this process ends, as far as they can still be told."""
    reason = str(error) if isinstance(error, UserError | Interrupted) else f"{type(error).__name__}: {error}"
    with suppress(RuntimeError):
        store.set(REASON, f"process {rank.number} of {rank.count} has ended: {reason}".rstrip("."))


def reason_left(store: distributed.Store) -> str | None:
    """Return why another process has ended, in its own words; None where it could leave none."""
    with suppress(RuntimeError):
        store.set_timeout(REASON_WAIT)
        if store.check([REASON]):
            return store.get(REASON).decode()
    return None


def agent_has_store() -> bool:
    """True where torchrun's agent already listens at the place to meet."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
