"""What a training step costs, measured in a process of its own with torch set up as for training."""

from functools import partial

from pipeline.config.config import Config
from pipeline.device import choose
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.log import log
from pipeline.planning.cost import Cost, Trial
from pipeline.planning.measure import step_cost
from pipeline.processes import Failure, each
from pipeline.stages.torch_setup import loader_workers, set_up_torch


def measured_step(trial: Trial, *, config: Config, head: Head) -> Cost | None:
    """Return what a step costs, measured in a process of its own; None where memory does not suffice.

    Raises UserError where the network cannot be made, or its step fails for another reason than memory.
    """
    ((_, result),) = each(partial(step_in_this_process, config=config, head=head), [trial], workers=1)
    if isinstance(result, Failure):
        if result.died:
            return None
        raise UserError(result.sentence)
    log.debug("%s x %s: %s", trial.batch, trial.patch_vox, result)
    return result


def step_in_this_process(trial: Trial, *, config: Config, head: Head) -> Cost | None:
    """Return what a step costs with torch set up as for training."""
    device = choose(config.train.device)
    set_up_torch(config.train, loader_workers(config.sample.workers, device), device)
    return step_cost(trial, head, config.loss, config.train, device)
