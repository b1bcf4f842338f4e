"""In which numeric type a run trains: by its config, its device, a trial, and what it has gone on in so far."""

from functools import partial

import torch
from torch import nn

from pipeline.config.config import Config
from pipeline.device import amp_dtype
from pipeline.log import log
from pipeline.losses.loss import Loss
from pipeline.model import ModelFacts
from pipeline.nets.convolution import right_in_cpu_bfloat16
from pipeline.sampling.batch import make_batch
from pipeline.sampling.index import Index
from pipeline.training.checkpoint import State
from pipeline.training.distributed import Ranks
from pipeline.training.trial import Trial


def amp_of_run(
    config: Config, net: nn.Module, loss: Loss, facts: ModelFacts, index: Index, ranks: Ranks, saved: State | None
) -> torch.dtype | None:
    """Return the type of mixed precision, the same on all ranks: that of the saved state, else chosen by the first one.

    None stands for float32.
    """
    if saved is not None:
        amp = resumed_amp(dtype_called(saved.facts["amp"]), config, net, ranks.device)
    else:
        chosen = choose_amp(config, net, loss, facts, index, ranks) if ranks.is_first else None
        amp = dtype_called(ranks.of_first(None if chosen is None else str(chosen).removeprefix("torch.")))
    log.info("forward pass in %s", "float32" if amp is None else amp)
    return amp


def choose_amp(
    config: Config, net: nn.Module, loss: Loss, facts: ModelFacts, index: Index, ranks: Ranks
) -> torch.dtype | None:
    """Return the type in which a run begins.

    On a CPU networks with convolutions of others get bfloat16 only where it is asked for: torch's gradients may be
    wrong there, see `nets.convolution.Convolution`.
    """
    device = ranks.device
    if device.type == "cpu" and not right_in_cpu_bfloat16(net):
        if config.train.amp == "bf16":
            name = config.net.name
            log.warning("train.amp=bf16: on a CPU gradients of %s may be wrong where an axis has 2 voxels", name)
        return amp_dtype(config.train.amp, device)
    at_once = config.sample.model_copy(update={"batch": config.sample.batch // (config.train.accumulate * ranks.count)})
    make = partial(make_batch, index, at_once, config.augment, facts.intensity, config.seed, 1)
    return amp_dtype(config.train.amp, device, Trial(net, loss, make, device))


def resumed_amp(amp: torch.dtype | None, config: Config, net: nn.Module, device: torch.device) -> torch.dtype | None:
    """Return the type that a run goes on in: that of its state, float32 where this device cannot have it."""
    wrong = amp == torch.bfloat16 and config.train.amp != "bf16" and not right_in_cpu_bfloat16(net)
    if device.type == "cpu" and (amp == torch.float16 or wrong):
        log.warning("so far the run has gone on in %s, which is not right for it on a CPU: float32 from here", amp)
        return None
    return amp


def dtype_called(name: str | None) -> torch.dtype | None:
    """Return torch's type of a name such as "bfloat16"; None, which is float32, for None."""
    return None if name is None else getattr(torch, name)
