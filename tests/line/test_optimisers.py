"""Ways to train on real CT: each goes on from a saved state to the bits of a run that was left alone."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from pipeline.stages import train

from .conftest import Configure

WAYS = {
    "momentum": ("train.optimiser=sgd", "train.schedule=polynomial", "train.lr=1e-2"),
    "average": ("train.average=0.9", "train.schedule=step"),
    "triangles": ("train.optimiser=sgd", "train.schedule=triangular2", "train.cycles=2", "train.average=0.999"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_goes_on_from_its_last_but_one_state_ends_with_the_same_bits(way: str, configure: Configure) -> None:
    config = configure("train.steps=6", *WAYS[way])  # validates, and saves, after 5 and 6
    train.run(config)
    folder = config.work / "train" / "fold0"
    final = folder / "state" / "step-000000006"
    expected = load_file(final / "tensors.safetensors")
    shutil.rmtree(final)
    (folder / "done.json").unlink()
    assert train.run(config).done == ("fold0",)
    found = load_file(final / "tensors.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert any(name.endswith("momentum_buffer") for name in found) == ("train.optimiser=sgd" in WAYS[way])
