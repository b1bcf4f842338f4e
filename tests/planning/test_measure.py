"""A real training step, measured in a process of its own."""

from functools import partial

import pytest
import torch

from pipeline.config.loss import LossSection
from pipeline.config.net import NetSection
from pipeline.config.train import TrainSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.planning.cost import Cost, Trial
from pipeline.planning.measure import noise, step_cost
from pipeline.processes import each

HEAD = Head("softmax", Labels({"liver": (1,), "lung": (2,)}))
NET = NetSection(options={"channels": [8, 16]})
measure = partial(
    step_cost, head=HEAD, loss=LossSection(), train=TrainSection(threads=1), device=torch.device("cpu")
)  # fmt: skip


def test_a_step_takes_the_memory_of_its_features_and_less_where_they_are_recomputed() -> None:
    options = {**NET.options, "convolutions": 4, "decoder_convolutions": 4}  # much to keep: 320 against 190 MiB
    costs = []
    for checkpoint in ("none", "deep"):
        trial = Trial(NetSection(options=options, checkpoint=checkpoint), (48, 48, 48), 2)
        ((_, cost),) = each(measure, [trial], workers=1)
        assert isinstance(cost, Cost)
        costs.append(cost)
    kept, recomputed = costs
    # at the least the features of two blocks of 8 channels, and the gradient of one of them, float32
    assert kept.memory_bytes > 3 * 8 * 4 * 2 * 48**3
    assert recomputed.memory_bytes < kept.memory_bytes
    assert kept.seconds > 0
    assert kept.program_bytes > 2**20


def test_a_step_that_no_memory_suffices_for_is_none() -> None:
    assert measure(Trial(NET, (40_000, 40_000, 40_000), 2)) is None


def test_a_patch_that_the_network_does_not_take_gets_its_sentence() -> None:
    with pytest.raises(UserError, match=r"sample\.patch_vox"):
        measure(Trial(NET, (2, 2, 2), 2))


def test_the_noise_has_every_class_and_is_the_same_each_time() -> None:
    trial = Trial(NET, (8, 8, 8), 2)
    one, other = noise(trial, 2), noise(trial, 2)
    assert set(one.labels.unique().tolist()) == {0, 1, 2}
    assert one.image.shape == (2, 1, 8, 8, 8)
    assert torch.equal(one.image, other.image)
