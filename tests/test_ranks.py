import pytest

from pipeline.ranks import Rank, this_rank

TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}
SRUN = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
BATCH_SCRIPT = {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, Rank(0, 1, 0)),
        (TORCHRUN, Rank(3, 4, 1)),
        (SRUN, Rank(1, 2, 0)),
        (SRUN | TORCHRUN, Rank(3, 4, 1)),  # torchrun started by srun: the inner one counts
        (BATCH_SCRIPT, Rank()),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, Rank()),
        (TORCHRUN | {"RANK": ""}, Rank()),
    ],
)
def test_the_rank_is_that_of_what_started_the_process(environment, rank):
    assert this_rank(environment) == rank
