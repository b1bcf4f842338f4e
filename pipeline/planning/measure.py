"""What a training step takes on this device: the real network, loss and optimiser, run some times."""

import time

import torch

from pipeline.config.loss import LossSection
from pipeline.config.train import TrainSection
from pipeline.device import amp_dtype, is_out_of_memory, memory_format
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.losses.build import build as build_loss
from pipeline.nets.registry import build, check_patch
from pipeline.planning.cost import Cost, Trial
from pipeline.planning.network import CHANNELS_IN
from pipeline.processes import peak_memory_bytes
from pipeline.sampling.batch import Batch
from pipeline.training.optimise import make_optimiser
from pipeline.training.step import Step

TIMED_STEPS = 3  # after a first one that sets up kernels; the quickest counts, as other programs may slow any of them
ENOUGH_S = 5.0  # of timed steps


def step_cost(trial: Trial, head: Head, loss: LossSection, train: TrainSection, device: torch.device) -> Cost | None:
    """Return what a training step costs, None where memory does not suffice.

    To be called in a process of its own, with torch set up as for training: the peak of a process is counted from its
    start. The batch is noise, with labels of every class. On a CPU `train.amp=auto` is measured in float32, which
    takes the most. Raises UserError where the network cannot be made, or does not take the patch.
    """
    program_bytes = 0 if device.type == "cuda" else peak_memory_bytes()
    net = build(trial.net, CHANNELS_IN, head.channels, trial.patch_vox)
    check_patch(net, trial.patch_vox, trial.net.name)
    try:
        net = net.to(device).to(memory_format=memory_format(device))  # type: ignore[call-overload]
        terms = build_loss(loss, head, trial.net.head_weights).to(device)
        amp = amp_dtype(train.amp, device)
        step = Step(net, terms, make_optimiser(net, train), device=device, amp=amp, clip=train.clip)
        seconds = quickest(step, noise(trial, len(head.labels.names)), device)
    except (UserError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error) or is_out_of_memory(error.__cause__):
            return None
        raise
    peak = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else peak_memory_bytes()
    return Cost(peak - program_bytes, program_bytes, seconds)


def noise(trial: Trial, classes: int) -> Batch:
    """Return a batch of random numbers, and of labels from 0 to `classes`."""
    generator = torch.Generator().manual_seed(0)
    shape = (trial.batch, *trial.patch_vox)
    image = torch.randn((trial.batch, CHANNELS_IN, *trial.patch_vox), generator=generator)
    labels = torch.randint(classes + 1, shape, dtype=torch.uint8, generator=generator)
    return Batch(image, labels, ())


def quickest(step: Step, batch: Batch, device: torch.device) -> float:
    """Return the seconds of the quickest of some steps; of few where they are long."""
    seconds_of(step, 0, batch, device)
    spent: list[float] = []
    while len(spent) < TIMED_STEPS and sum(spent) < ENOUGH_S:
        spent.append(seconds_of(step, len(spent) + 1, batch, device))
    return min(spent)


def seconds_of(step: Step, number: int, batch: Batch, device: torch.device) -> float:
    """Return the seconds of one step, its work on a GPU included. Its rate is 0: the weights stay sound.

    On a CPU it is at most the seconds that the cores have worked for it: while they work for another program the clock
    goes on, and a plan is for a machine that trains.
    """
    began, worked = time.perf_counter(), time.process_time()
    step(number, batch, lr=0.0)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter() - began
    return min(time.perf_counter() - began, time.process_time() - worked)
