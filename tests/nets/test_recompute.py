import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.nets import recompute
from pipeline.nets.registry import build
from pipeline.nets.unet3d import UNet3d

NETWORKS = {
    "UNet3d": {"channels": [4, 8, 8]},
    "monai.UNet": {"channels": [4, 8, 8], "norm": "batch", "dropout": 0.3},
    "monai.SegResNet": {"init_filters": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1], "dropout_prob": 0.3},
    "monai.DynUNet": {"strides": [1, 2, 2], "filters": [4, 8, 8], "norm_name": "batch"},
    "monai.AttentionUnet": {"channels": [4, 8, 8], "dropout": 0.3},
}


def made(name, checkpoint):
    torch.manual_seed(0)
    return build(NetSection(name=name, options=NETWORKS[name], checkpoint=checkpoint), 1, 3)


def step(net):
    torch.manual_seed(1)
    logits = net(torch.randn(2, 1, 16, 16, 16))
    logits.square().mean().backward()
    return logits


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_gradients_and_running_statistics_are_the_same_bit_by_bit(name):
    plain, recomputed = made(name, "none"), made(name, "blocks")
    assert torch.equal(step(plain), step(recomputed))
    for (key, a), (other, b) in zip(plain.named_parameters(), recomputed.named_parameters(), strict=True):
        assert key == other
        assert torch.equal(a.grad, b.grad), key
    for (key, a), (other, b) in zip(plain.state_dict().items(), recomputed.state_dict().items(), strict=True):
        assert key == other
        assert torch.equal(a, b), key
    assert torch.equal(plain.eval()(torch.ones(1, 1, 16, 16, 16)), recomputed.eval()(torch.ones(1, 1, 16, 16, 16)))


def held_bytes(net):
    """Bytes of distinct tensors that the graph keeps for the backward pass, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in net.parameters()}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = net(torch.randn(2, 1, 16, 16, 16))
    del output
    return sum(storages.values())


def test_blocks_run_twice_in_training_and_once_elsewhere():
    net = made("UNet3d", "blocks")
    runs = []
    net.encoder[0][0][0].register_forward_hook(lambda module, inputs, output: runs.append(module.training))
    step(net)
    assert len(runs) == 2
    runs.clear()
    with torch.no_grad():
        net(torch.zeros(1, 1, 16, 16, 16))
    net.eval()(torch.zeros(1, 1, 16, 16, 16)).sum().backward()
    assert len(runs) == 2


@pytest.mark.parametrize("name", ["UNet3d", "monai.UNet"])
def test_less_is_held_for_the_backward_pass(name):
    assert held_bytes(made(name, "blocks")) < 0.6 * held_bytes(made(name, "none"))


def test_a_copy_of_the_network_trains_by_itself():
    net = made("UNet3d", "blocks")
    twin = copy.deepcopy(net)
    step(twin)
    assert all(p.grad is None for p in net.parameters())
    assert all(p.grad is not None for p in twin.parameters())


def test_a_retained_graph_can_be_used_twice():
    net = made("monai.UNet", "blocks")
    loss = net(torch.randn(2, 1, 16, 16, 16)).square().mean()
    loss.backward(retain_graph=True)
    once = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    loss.backward()
    assert all(torch.equal(p.grad, a) for p, a in zip(net.parameters(), once, strict=True))


def test_none_changes_nothing():
    net = UNet3d(1, 2, (4, 8))
    kinds = [type(part) for part in net.modules()]
    recompute.apply(net, "none")
    assert [type(part) for part in net.modules()] == kinds


def test_the_innermost_modules_with_a_weighted_layer_and_a_norm_are_chosen():
    inner = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Sequential(nn.BatchNorm3d(2), nn.ReLU()))
    net = nn.Sequential(nn.Sequential(inner, nn.BatchNorm3d(2)), nn.Conv3d(2, 2, 1))
    assert recompute.innermost_blocks(net) == [inner]


def test_a_network_without_blocks_is_refused():
    with pytest.raises(UserError, match="no module with a convolution and a norm"):
        recompute.apply(nn.Conv3d(1, 2, 1), "blocks")


def test_an_input_changed_in_place_after_its_block_ran_is_an_error_and_not_a_wrong_gradient():
    class Careless(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv3d(1, 2, 1)
            self.block = nn.Sequential(nn.Conv3d(2, 2, 1), nn.InstanceNorm3d(2))

        def forward(self, image):
            features = self.first(image) + 0
            output = self.block(features)
            return output + functional.leaky_relu_(features)

    net = Careless()
    recompute.apply(net, "blocks")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        step(net)
