"""How torch is set up for training, and for measuring what it takes."""

import os
from typing import Literal

import torch

from pipeline.config.train import TrainSection
from pipeline.processes import available_cores, threads_of

MOST_WORKERS = 8


def loader_workers(given: int | Literal["auto"], device: torch.device) -> int:
    """Return how many processes make batches.

    By default none on a CPU, where training takes all cores itself, and the cores but one, at most 8, beside a GPU.
    """
    if given != "auto":
        return given
    return 0 if device.type == "cpu" else max(1, min(MOST_WORKERS, available_cores() - 1))


def set_up_torch(train: TrainSection, workers: int, device: torch.device) -> None:
    """Set threads, and whether torch must take algorithms whose results repeat bit for bit.

    The processes that make batches have a core each; training has the others, and at least one.
    """
    torch.set_num_threads(threads_of(train.threads, workers))
    deterministic = device.type == "cpu" if train.deterministic == "auto" else train.deterministic
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses matrix products on CUDA
    # It guards against bugs of torch's users, at a cost.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
