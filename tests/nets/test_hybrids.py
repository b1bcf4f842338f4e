"""What the project's two networks with transformers have in common."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.net import NetSection
from pipeline.nets.registry import build

OPTIONS = {
    "UCTransNet3d": {"width": 4, "heads": 2, "layers": 2},
    "TransFuse3d": {"channels": [4, 6, 8], "blocks": [1, 1, 1], "dim": 12, "depth": 2, "heads": 3},
}


@pytest.fixture(params=OPTIONS)
def make(request):
    """Return the network, always with the same weights."""

    def made(dropout: float = 0.0, checkpoint: str = "none") -> nn.Module:
        torch.manual_seed(0)
        options = OPTIONS[request.param] | {"dropout": dropout}
        return build(NetSection(name=request.param, options=options, checkpoint=checkpoint), 1, 3)

    return made


def test_recomputing_changes_neither_outputs_nor_gradients_though_there_is_dropout(make, one_step):
    plain, recomputed = (make(dropout=0.2, checkpoint=checkpoint) for checkpoint in ("none", "blocks"))
    image = torch.randn(2, 1, 32, 32, 32)
    pairs = list(zip(one_step(plain, image), one_step(recomputed, image), strict=True))
    assert len(pairs) > len(list(plain.parameters()))
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_sample_does_not_depend_on_the_others_in_its_batch(make):
    net = make()
    batch = torch.randn(2, 1, 32, 32, 32)
    for together, alone in zip(outputs_of(net, batch), outputs_of(net, batch[:1]), strict=True):
        torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-6)


def test_a_state_dict_makes_the_same_network_again(make):
    net, other = make().eval(), make().eval()
    nn.init.normal_(next(other.parameters()))
    other.load_state_dict(net.state_dict())
    image = torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(net(image), other(image))


def outputs_of(net: nn.Module, image: Tensor) -> list[Tensor]:
    output = net(image)
    return [output] if isinstance(output, Tensor) else output
