import hashlib
import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pipeline.config.loss import LossSection
from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.losses.build import build as build_loss
from pipeline.nets.blocks import Block, ResidualBlock
from pipeline.nets.convolution import Convolution
from pipeline.nets.norms import NORMS
from pipeline.nets.probe import probe
from pipeline.nets.registry import build, check_patch
from pipeline.nets.unet3d import UNet3d
from pipeline.nets.upsample import UPSAMPLINGS

SMALL = (4, 6, 8)
DEMO = {"channels": [16, 32, 64, 96], "decoder_convolutions": 1}
THICK_SLICES = {"strides": [1, [2, 2, 1], [2, 2, 1], [2, 2, 2]], "kernels": [[3, 3, 1], [3, 3, 1], 3, 3]}
EVERYTHING = {
    "channels": [4, 6, 8, 8], "convolutions": 3, "norm": "batch", "upsampling": "linear", "block": "residual",
    "attention_gates": True, "deep_supervision": 2, "dropout": 0.3, **THICK_SLICES,
}  # fmt: skip

FEATURES = st.fixed_dictionaries(
    {"channels": st.just([4, 6, 8, 8]), "convolutions": st.integers(1, 3), "decoder_convolutions": st.integers(1, 2)},
    optional={
        "upsampling": st.sampled_from(UPSAMPLINGS),
        "norm": st.sampled_from(NORMS),
        "block": st.just("residual"),
        "attention_gates": st.just(True),
        "deep_supervision": st.integers(1, 2),
        "dropout": st.sampled_from([0.3, [0, 0, 0.2, 0.4]]),
    },
)
SHAPES = st.sampled_from([{}, THICK_SLICES, {"strides": [1, [3, 1, 2], 1, 2], "kernels": [3, [3, 1, 5], 1, 3]}])
OPTIONS = st.builds(lambda features, shapes: features | shapes, FEATURES, SHAPES)


def made(options, checkpoint="none"):
    torch.manual_seed(0)
    return build(NetSection(options=options, checkpoint=checkpoint), 1, 3)


def outputs_of(net, image):
    output = net(image)
    return [output] if isinstance(output, torch.Tensor) else output


# What stood before options were added


@pytest.mark.parametrize(
    ("options", "channels_out", "names", "first", "mean_square"),
    [
        (DEMO, 6, "e5ee9fd3e66ce822", [0.01658473, -0.0002664009, -0.001751952, -0.01126279], 0.0006670791),
        ({}, 2, "a11434dd40ae3989", [-0.004786057, 0.02605839], 0.0009296707),
    ],
)
def test_names_first_weights_and_outputs_of_a_network_without_further_options_stay(
    options, channels_out, names, first, mean_square
):
    torch.manual_seed(0)
    net = UNet3d(1, channels_out, **options)
    listed = "\n".join(f"{name} {list(value.shape)}" for name, value in net.state_dict().items())
    assert hashlib.sha256(listed.encode()).hexdigest().startswith(names)
    with torch.no_grad():
        logits = net(torch.sin(torch.arange(2 * 17 * 18 * 19)).view(2, 1, 17, 18, 19))
    assert logits[0, :4, 0, 0, 0].tolist() == pytest.approx(first, rel=1e-3, abs=1e-6)
    assert float(logits.square().mean()) == pytest.approx(mean_square, rel=1e-4)


# Every combination


@pytest.mark.parametrize(("upsampling", "norm"), list(product(UPSAMPLINGS, NORMS)))
def test_every_output_of_every_combination_passes_the_door(upsampling, norm):
    for block, gates, further in product(["plain", "residual"], [False, True], [0, 1, 2]):
        options = {"channels": [4, 6, 8, 8], "upsampling": upsampling, "norm": norm, "block": block}
        net = made(options | {"attention_gates": gates, "deep_supervision": further, "dropout": 0.1 * further})
        verdict = probe(net, (12, 11, 10), channels_out=3)
        shapes = [(2, 3, 12, 11, 10), (2, 3, 6, 6, 5), (2, 3, 3, 3, 3)]
        assert verdict.output_shapes == tuple(shapes[: 1 + further])


@settings(max_examples=30, deadline=None)
@given(options=OPTIONS, size=st.tuples(*[st.integers(0, 6)] * 3))
def test_every_size_from_the_smallest_up_keeps_its_size(options, size):
    net = made(options)
    size = [low + more for low, more in zip(net.smallest_vox, size, strict=True)]
    outputs = outputs_of(net, torch.randn(2, 1, *size))
    assert len(outputs) == 1 + options.get("deep_supervision", 0)
    assert outputs[0].shape == (2, 3, *size)
    assert all(bool(torch.isfinite(output).all()) for output in outputs)
    assert net.eval()(torch.randn(1, 1, *size)).shape == (1, 3, *size)


@settings(max_examples=15, deadline=None)
@given(options=OPTIONS, axis=st.integers(0, 2))
def test_a_patch_under_the_smallest_size_is_refused_as_the_deepest_stage_would_have_one_voxel(options, axis):
    net = made(options)
    size = list(net.smallest_vox)
    check_patch(net, tuple(size), "UNet3d")
    size[axis] -= 1
    with pytest.raises(UserError, match=r"does not suit UNet3d.*the nearest is"):
        check_patch(net, tuple(size), "UNet3d")
    deepest = []
    net.encoder[-1].register_forward_hook(lambda module, inputs, output: deepest.append(output.shape[2 + axis]))
    net.eval()(torch.randn(1, 1, *size))
    assert deepest == [1]


@settings(max_examples=15, deadline=None)
@given(options=OPTIONS)
def test_recomputed_blocks_give_the_same_bits(options):
    results = []
    for checkpoint in ("none", "blocks"):
        net = made(options, checkpoint)
        torch.manual_seed(1)
        outputs = outputs_of(net, torch.randn(2, 1, 11, 14, 13))
        sum(output.square().mean() for output in outputs).backward()
        gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
        results.append((dict(enumerate(outputs)), gradients, net.state_dict()))
    for plain, recomputed in zip(*results, strict=True):
        assert plain.keys() == recomputed.keys()
        assert all(torch.equal(value, recomputed[key]) for key, value in plain.items())


def test_the_probe_and_recomputing_hold_with_everything_at_once():
    net = made(EVERYTHING, "blocks")
    verdict = probe(net, (17, 17, 9), channels_out=3)
    assert verdict.output_shapes == ((2, 3, 17, 17, 9), (2, 3, 9, 9, 9), (2, 3, 5, 5, 9))
    assert all(bool(parameter.requires_grad) for parameter in net.parameters())


# Option by option


def test_strides_may_differ_by_axis_and_need_not_be_powers_of_two():
    net = UNet3d(2, 5, SMALL, strides=[1, [2, 2, 1], 3])
    assert net.smallest_vox == (7, 7, 4)
    assert net.multiple_vox == (1, 1, 1)
    assert net(torch.randn(1, 2, 7, 9, 4)).shape == (1, 5, 7, 9, 4)
    seen = []
    net.encoder[2].register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2:]))
    net(torch.randn(1, 2, 7, 7, 4))
    assert seen == [(2, 2, 2)]


def test_kernels_of_a_stage_are_the_same_on_the_way_down_and_up():
    net = UNet3d(1, 2, (4, 6, 8, 8), **THICK_SLICES)
    kernels = [[{part.kernel_size for part in stage.modules() if isinstance(part, Convolution)} for stage in side]
               for side in (net.encoder, net.decoder)]  # fmt: skip
    assert kernels[0] == [{(3, 3, 1)}, {(3, 3, 1)}, {(3, 3, 3)}, {(3, 3, 3)}]
    assert kernels[1] == [{(3, 3, 3)}, {(3, 3, 1)}, {(3, 3, 1)}]


def test_flat_kernels_keep_slices_apart_until_a_stage_joins_them():
    net = UNet3d(1, 2, (4, 6), strides=[1, [2, 2, 1]], kernels=[[3, 3, 1], [3, 3, 1]], norm="batch").eval()
    image = torch.randn(1, 1, 8, 8, 6)
    other = image.clone()
    other[..., 3] += 1
    changed = (net(image) != net(other)).any(dim=1).flatten(0, 2).any(dim=0)
    assert changed.tolist() == [False, False, False, True, False, False]


def test_the_number_of_convolutions_is_that_of_the_options():
    net = UNet3d(1, 2, SMALL, convolutions=3, decoder_convolutions=1)
    assert [len(stage) for stage in net.encoder] == [3, 3, 3]
    assert [len(stage) for stage in net.decoder] == [1, 1]


def test_residual_blocks_take_the_place_of_plain_ones():
    kinds = {type(part) for stage in UNet3d(1, 2, SMALL, block="residual").encoder for part in stage}
    assert kinds == {ResidualBlock}
    kinds = {type(part) for stage in UNet3d(1, 2, SMALL).encoder for part in stage}
    assert kinds == {Block}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_no_convolution_in_front_of_a_norm_has_a_bias(norm, block):
    convolutions = [part for part in UNet3d(1, 2, SMALL, norm=norm, block=block).modules()
                    if isinstance(part, Convolution)]  # fmt: skip
    assert len(convolutions) == 2 * (3 + 2)
    assert all(convolution.bias is None for convolution in convolutions)


def test_a_sample_does_not_depend_on_the_others_in_its_batch():
    torch.manual_seed(0)
    net = UNet3d(1, 3, SMALL)
    batch = torch.randn(2, 1, 8, 8, 8)
    torch.testing.assert_close(net(batch)[:1], net(batch[:1]), rtol=1e-4, atol=1e-6)


def test_batch_norm_refuses_to_train_on_one_sample_and_predicts_it():
    net = UNet3d(1, 3, SMALL, norm="batch")
    with pytest.raises(UserError, match=r"sample\.batch"):
        net(torch.randn(1, 1, 8, 8, 8))
    assert net.eval()(torch.randn(1, 1, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


def test_closed_gates_keep_a_skip_out():
    net = UNet3d(1, 2, SMALL, attention_gates=True)
    for gate in net.gates:
        nn.init.constant_(gate.weight.bias, -1000)
    seen = []
    net.decoder[-1][0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][:, : SMALL[0]]))
    net(torch.randn(1, 1, 8, 8, 8))
    assert not bool(seen[0].any())


def test_dropout_differs_by_stage_and_is_the_same_on_the_way_up():
    net = UNet3d(1, 2, SMALL, dropout=[0, 0.1, 0.2])
    shares = [[[part.p for part in stage if isinstance(part, nn.Dropout3d)] for stage in side]
              for side in (net.encoder, net.decoder)]  # fmt: skip
    assert shares == [[[], [0.1], [0.2]], [[0.1], []]]


def test_dropout_changes_training_only():
    net = UNet3d(1, 2, SMALL, dropout=0.5)
    image = torch.randn(2, 1, 8, 8, 8)
    assert not torch.equal(net(image), net(image))
    assert torch.equal(net.eval()(image), net(image))


# Learning


def test_every_output_learns_the_labels_of_its_own_resolution():
    torch.manual_seed(0)
    options = {"channels": [4, 6, 8, 8], "deep_supervision": 2, "attention_gates": True, "block": "residual"}
    net = build(NetSection(options=options), 1, 2)
    head = Head("softmax", Labels({"half": (1,)}))
    loss = build_loss(LossSection(), head, (0.6, 0.3, 0.1))
    labels = torch.zeros(2, 16, 16, 16, dtype=torch.uint8)
    labels[0, :8], labels[1, 8:] = 1, 1
    image = (labels.float() - 0.5).unsqueeze(1)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        loss(net(image), labels).mean().backward()
        optimiser.step()
    for output, step in zip(net(image), (1, 2, 4), strict=True):
        wrong = head.decide(output.detach()) != labels[:, ::step, ::step, ::step]
        assert wrong.shape[1] == 16 // step
        assert float(wrong.float().mean()) < 0.02
    assert bool((head.decide(net.eval()(image).detach()) == labels).float().mean() > 0.98)


def test_weights_of_another_number_of_outputs_are_refused():
    net = made({"channels": [4, 6, 8, 8], "deep_supervision": 2})
    loss = build_loss(LossSection(), Head("softmax", Labels({"one": (1,), "other": (2,)})), (0.6, 0.4))
    with pytest.raises(UserError, match=r"net\.head_weights: 2 weights, but the network returns 3 outputs"):
        loss(net(torch.randn(1, 1, 9, 9, 9)), torch.zeros(1, 9, 9, 9, dtype=torch.uint8))


@pytest.mark.parametrize("options", [{}, EVERYTHING])
def test_the_first_loss_of_every_output_is_near_that_of_knowing_nothing(options):
    torch.manual_seed(0)
    for logits in outputs_of(UNet3d(1, 7, **options), torch.randn(2, 1, 32, 32, 32)):
        loss = functional.cross_entropy(logits.detach(), torch.randint(0, 7, (2, *logits.shape[2:])))
        assert float(loss) == pytest.approx(math.log(7), abs=0.05)
