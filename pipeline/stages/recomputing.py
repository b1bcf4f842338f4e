"""The mode of gradient checkpointing that a run trains in, where the config leaves it to the memory at hand."""

from collections import Counter
from pathlib import Path

from pipeline.config.config import Config
from pipeline.files import read_json, write_json
from pipeline.head import Head
from pipeline.log import log
from pipeline.planning.cost import Cost, Trial
from pipeline.planning.memory import free_memory_bytes, memory_name
from pipeline.planning.recompute import just_enough
from pipeline.stages.measured import measured_step
from pipeline.training.checkpoint import state_folders
from pipeline.training.distributed import Ranks

RECORD = "recompute.json"  # in the folder of the run


def recompute_mode(config: Config, head: Head, folder: Path, ranks: Ranks) -> str | None:
    """Return the mode that `net.checkpoint=auto` comes to; None where the config says another, which the net has.

    none, blocks and deep are measured in turn, each in a process of its own, until one fits into what every rank can
    have. All ranks get the same; a run that goes on keeps what it began with. Raises UserError where no mode fits.
    """
    if config.net.checkpoint != "auto":
        return None
    free_bytes = fair_share_bytes(ranks)
    mode = decide(config, head, folder, ranks.count, free_bytes) if ranks.is_first else None
    return str(ranks.of_first(mode))


def fair_share_bytes(ranks: Ranks) -> int:
    """Return how many bytes each rank can take: the least over ranks of what is free, shared by those it is free to."""
    name, free_bytes = memory_name(ranks.device), free_memory_bytes(ranks.device)
    told = ranks.gather([name, free_bytes])
    sharers = Counter(name for name, _ in told)
    return min(free_bytes // sharers[name] for name, free_bytes in told)


def decide(config: Config, head: Head, folder: Path, processes: int, free_bytes: int) -> str:
    """Return the mode that the run began with, else the quickest one that fits, and write down why it is that one."""
    record = folder / RECORD
    if record.exists() and state_folders(folder / "state"):
        mode = str(read_json(record)["mode"])
        log.info("net.checkpoint: %s, as this run began", mode)
        return mode
    sample = config.sample
    at_once = sample.batch // (processes * config.train.accumulate)

    def measure(mode: str) -> Cost | None:
        trial = Trial(config.net.model_copy(update={"checkpoint": mode}), sample.patch_vox, at_once)
        return measured_step(trial, config=config, head=head)

    decision = just_enough(measure, free_bytes)
    write_json(record, {"mode": decision.mode, "reason": decision.reason})
    log.info("net.checkpoint: %s, as %s", decision.mode, decision.reason)
    return decision.mode
