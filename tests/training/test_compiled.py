"""torch.compile around the training step: the same numbers, and a sentence where it cannot be had."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.training.compiled import compiled, compiling_told


def small() -> nn.Module:
    """Return a network with fixed weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.LeakyReLU(), nn.Conv3d(4, 2, 1))


@pytest.mark.slow
def test_gradients_are_those_of_the_network_itself() -> None:
    image = torch.randn(2, 1, 8, 8, 8)
    plain, other = small(), small()
    for net, called in ((plain, plain), (other, compiled(other))):
        called(image).square().mean().backward()
        assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def test_a_compiler_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (str(tmp_path / "no-compiler"),))
    monkeypatch.setattr(config, "fx_graph_cache", False)
    with pytest.raises(UserError, match=r"train\.compile=true.*set train\.compile=false"), compiling_told():
        compiled(small())(torch.randn(1, 1, 8, 8, 8))


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ValueError, match="mine"), compiling_told():
        raise ValueError("mine")
