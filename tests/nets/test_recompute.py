import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.nets import recompute
from pipeline.nets.registry import build
from pipeline.nets.uctransnet3d import UCTransNet3d
from pipeline.nets.unet3d import UNet3d

NETWORKS = {
    "UNet3d": {"channels": [4, 8, 8]},
    "monai.UNet": {"channels": [4, 8, 8], "norm": "batch", "dropout": 0.3},
    "monai.SegResNet": {"init_filters": 8, "blocks_down": [1, 2, 1], "blocks_up": [1, 1], "dropout_prob": 0.3},
    "monai.DynUNet": {"strides": [1, 2, 2], "filters": [4, 8, 8], "norm_name": "batch"},
    "monai.AttentionUnet": {"channels": [4, 8, 8], "dropout": 0.3},
    "UCTransNet3d": {"width": 4, "token_vox": 8, "heads": 2, "layers": 1},
    "TransFuse3d": {"channels": [4, 8, 8], "blocks": [1, 1, 1], "dim": 8, "depth": 1, "heads": 2, "stem_stride": 2},
}
VARIANTS = {
    "whole": ("UNet3d", {"norm": "batch", "dropout": 0.3, "attention_gates": True, "deep_supervision": 1}),
    "residual": ("UNet3d", {"norm": "batch", "block": "residual", "upsampling": "transposed", "dropout": 0.3}),
    "short": ("UNet3d", {"decoder_convolutions": 1, "upsampling": "linear"}),
    "supervised": ("monai.DynUNet", {"deep_supervision": True, "dropout": 0.3, "norm_name": "batch"}),
    "shortcuts": ("monai.DynUNet", {"res_block": True}),
}
CASES = [(name, {}) for name in NETWORKS] + list(VARIANTS.values())
MODES = ["blocks", "deep"]


def made(name, checkpoint, **options):
    torch.manual_seed(0)
    return build(NetSection(name=name, options=NETWORKS[name] | options, checkpoint=checkpoint), 1, 3)


def noise(net):
    side = 32 if isinstance(net, UCTransNet3d) else 16  # its smallest
    return torch.randn(2, 1, side, side, side)


def step(net, amp=False):
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        answer = net(noise(net))
    outputs = [answer] if isinstance(answer, torch.Tensor) else answer
    sum(output.float().square().mean() for output in outputs).backward()
    return outputs[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_outputs_gradients_and_running_statistics_are_the_same_bit_by_bit(name, options, mode):
    assert_the_same(name, options, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["whole", "residual"])  # foreign ones may be wrong: see `blocks.Convolution`
def test_mixed_precision_is_recomputed_in_the_same_types(name, mode):
    assert_the_same(*VARIANTS[name], mode, amp=True)


def assert_the_same(name, options, mode, amp=False):
    plain, recomputed = made(name, "none", **options), made(name, mode, **options)
    assert torch.equal(step(plain, amp), step(recomputed, amp))
    for (key, a), (other, b) in zip(plain.named_parameters(), recomputed.named_parameters(), strict=True):
        assert key == other
        assert torch.equal(a.grad, b.grad), key
    for (key, a), (other, b) in zip(plain.state_dict().items(), recomputed.state_dict().items(), strict=True):
        assert key == other
        assert torch.equal(a, b), key
    image = noise(plain)
    assert torch.equal(plain.eval()(image), recomputed.eval()(image))


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
        output = net(noise(net))
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


@pytest.mark.parametrize("name", ["UNet3d", "monai.UNet", "monai.DynUNet", "UCTransNet3d", "TransFuse3d"])
def test_less_is_held_for_the_backward_pass_and_least_with_deep(name):
    none, blocks, deep = (held_bytes(made(name, mode)) for mode in ("none", *MODES))
    assert blocks < 0.6 * none
    assert deep < blocks


@pytest.mark.parametrize("mode", MODES)
def test_a_copy_of_the_network_trains_by_itself(mode):
    net = made("UNet3d", mode)
    twin = copy.deepcopy(net)
    step(twin)
    assert all(p.grad is None for p in net.parameters())
    assert all(p.grad is not None for p in twin.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_a_retained_graph_can_be_used_twice(mode):
    net = made("monai.UNet", mode)
    loss = net(torch.randn(2, 1, 16, 16, 16)).square().mean()
    loss.backward(retain_graph=True)
    once = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    loss.backward()
    assert all(torch.equal(p.grad, a) for p, a in zip(net.parameters(), once, strict=True))


@pytest.mark.parametrize("mode", ["none", "auto"])
def test_none_and_what_is_not_decided_yet_change_nothing(mode):
    net = UNet3d(1, 2, (4, 8))
    kinds = [type(part) for part in net.modules()]
    recompute.apply(net, mode)
    assert [type(part) for part in net.modules()] == kinds


def test_the_innermost_modules_with_a_weighted_layer_and_a_norm_are_chosen():
    inner = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Sequential(nn.BatchNorm3d(2), nn.ReLU()))
    net = nn.Sequential(nn.Sequential(inner, nn.BatchNorm3d(2)), nn.Conv3d(2, 2, 1))
    assert recompute.innermost_blocks(net) == [inner]


def test_a_network_without_blocks_is_refused():
    with pytest.raises(UserError, match="no module with a convolution and a norm"):
        recompute.apply(nn.Conv3d(1, 2, 1), "blocks")


def test_deep_recomputes_the_smallest_modules_that_hold_two_blocks():
    def block():
        return nn.Sequential(nn.Conv3d(1, 1, 1), nn.InstanceNorm3d(1))

    pair = nn.Sequential(block(), block())
    net = nn.Sequential(pair, block(), nn.ModuleList([block(), block()]))
    segments = recompute.segments_of(net, "deep")
    assert [segment.module for segment in segments] == [*recompute.innermost_blocks(net), pair]


def test_deep_is_refused_where_nothing_lies_between_blocks_and_the_whole():
    block = nn.Sequential(nn.Conv3d(1, 1, 1), nn.InstanceNorm3d(1))
    with pytest.raises(UserError, match=r"deep needs modules that hold some blocks.*net\.checkpoint=blocks"):
        recompute.apply(nn.Sequential(block, copy.deepcopy(block)), "deep")


@pytest.mark.parametrize("mode", MODES)
def test_a_network_compiled_after_it_gives_what_the_plain_one_gives(mode):
    plain = made("UNet3d", "none", norm="batch")
    compiled = torch.compile(made("UNet3d", mode, norm="batch"), backend="aot_eager")
    assert torch.equal(step(plain), step(compiled))
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
    for a, b in zip(plain.buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_compiled_network_is_refused():
    with pytest.raises(UserError, match="compile the network after it"):
        recompute.apply(torch.compile(UNet3d(1, 2, (4, 8))), "blocks")


def train_on_one_of_two_ranks(rank, place, states):
    torch.distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    for mode in ("none", *MODES):
        net = made("UNet3d", mode, norm="batch", dropout=0.3)
        both = nn.parallel.DistributedDataParallel(net)
        torch.manual_seed(rank)
        both(torch.randn(2, 1, 16, 16, 16)).square().mean().backward()
        kept = {name: buffer.clone() for name, buffer in net.named_buffers()}
        torch.save({name: weight.grad for name, weight in net.named_parameters()} | kept, f"{states}-{mode}-{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_agree_on_the_gradients_that_they_have_without_it(tmp_path):
    place, states = tmp_path / "meeting", tmp_path / "state"
    torch.multiprocessing.spawn(train_on_one_of_two_ranks, (place, states), nprocs=2)
    for rank in (0, 1):
        none, *others = (torch.load(f"{states}-{mode}-{rank}") for mode in ("none", *MODES))
        for other in others:
            assert all(torch.equal(none[name], other[name]) for name in none)


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
