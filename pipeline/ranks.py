"""Which of the processes that train one network this is, by what started it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

# srun sets the first only in the steps that it starts: the batch script itself has Slurm's other names, and is alone.
STARTERS = {
    "torchrun": ("WORLD_SIZE", "RANK", "LOCAL_RANK"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"),
}


@dataclass(frozen=True)
class Rank:
    """number: from 0, which writes; count: of all processes; local: the number among those of this machine."""

    number: int = 0
    count: int = 1
    local: int = 0


def this_rank(environment: Mapping[str, str] = os.environ) -> Rank:
    """Return what torchrun, else Slurm's srun, says of this process; one that neither started is alone."""
    for names in STARTERS.values():
        found = [environment.get(name, "") for name in names]
        if all(value.isdigit() for value in found) and int(found[0]) > 1:
            count, number, local = map(int, found)
            return Rank(number, count, local)
    return Rank()
