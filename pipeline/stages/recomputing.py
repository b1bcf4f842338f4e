"""The mode of gradient checkpointing that a run trains in, where the config leaves it to the memory at hand."""

from pathlib import Path

import torch

from pipeline.config.config import Config
from pipeline.files import read_json, write_json
from pipeline.head import Head
from pipeline.log import log
from pipeline.planning.cost import Cost, Trial
from pipeline.planning.memory import free_memory_bytes
from pipeline.planning.recompute import just_enough
from pipeline.stages.measured import measured_step
from pipeline.training.checkpoint import state_folders

RECORD = "recompute.json"  # in the folder of the run


def recompute_mode(config: Config, head: Head, device: torch.device, folder: Path) -> str | None:
    """Return the mode that `net.checkpoint=auto` comes to; None where the config says another, which the net has.

    none, blocks and deep are measured in turn, each in a process of its own, until one fits. A run that goes on keeps
    what it began with. Raises UserError where no mode fits.
    """
    if config.net.checkpoint != "auto":
        return None
    record = folder / RECORD
    if record.exists() and state_folders(folder / "state"):
        mode = read_json(record)["mode"]
        log.info("net.checkpoint: %s, as this run began", mode)
    else:
        sample = config.sample

        def measure(mode: str) -> Cost | None:
            trial = Trial(config.net.model_copy(update={"checkpoint": mode}), sample.patch_vox, sample.batch)
            return measured_step(trial, config=config, head=head)

        decision = just_enough(measure, free_memory_bytes(device))
        mode = decision.mode
        write_json(record, {"mode": mode, "reason": decision.reason})
        log.info("net.checkpoint: %s, as %s", mode, decision.reason)
    return mode
