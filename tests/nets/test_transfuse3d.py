import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.nets.bifusion import BiFusion, ChannelGate, SkipGate, SpatialGate, upsample
from pipeline.nets.probe import probe
from pipeline.nets.registry import check_patch
from pipeline.nets.residual_encoder import ResidualEncoder
from pipeline.nets.transfuse3d import TransFuse3d
from pipeline.nets.vision_transformer import TokenAttention, VisionTransformer

SMALL = {"channels": [4, 6, 8], "blocks": [1, 1, 1], "dim": 12, "depth": 2, "heads": 3}


def small_net(**options):
    torch.manual_seed(0)
    return TransFuse3d(1, 3, **SMALL | options)


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_parameters_of_every_part_are_those_of_the_equations():
    net = TransFuse3d(1, 1)
    # stem 7^3 x 32; stages 27 x 4 x 32^2, 27 (32x64 + 3 x 64^2), 27 (64x128 + 3 x 128^2); 1x1x1 shortcuts; 2 a norm
    weights = 343 * 32 + 110_592 + 387_072 + 1_548_288 + 32 * 64 + 64 * 128
    assert count(net.encoder) == weights + 2 * (32 + 4 * 32 + 5 * 64 + 5 * 128)
    # embedding 16^3 x 192 + 192, positions 6^3 x 192, 8 blocks of 12 x 192^2 weights, 9 x 192 biases, 2 norms; a norm
    assert count(net.transformer) == 4097 * 192 + 216 * 192 + 8 * (12 * 192**2 + 13 * 192) + 2 * 192
    # each 27 (ab + b^2) + ab + 3 norms
    assert count(net.transformer_ups) == 27 * (16_384 + 3_072) + 12_288 + 2_048 + 6 * 96
    assert count(net) == 8_598_951
    # A prototype with a bias in front of norms, where it has no effect, has 8.601 M.


def test_the_published_widths_give_the_size_that_a_prototype_had():
    net = TransFuse3d(1, 1, channels=[64, 128, 256], blocks=[3, 4, 6], dim=384)
    assert count(net) == pytest.approx(48.8e6, rel=1e-3)


@pytest.mark.parametrize("stem_stride", [2, 4])
def test_it_runs_at_its_smallest_size_and_at_one_that_is_no_cube(stem_stride):
    net, step = small_net(stem_stride=stem_stride), 4 * stem_stride
    assert net.multiple_vox == (step,) * 3
    assert net.smallest_vox == (2 * step,) * 3
    for size in (net.smallest_vox, (2 * step, 4 * step, 3 * step)):
        check_patch(net, size, "TransFuse3d")
        joint, transformer, deep = net.train()(torch.randn(1, 1, *size))
        assert joint.shape == (1, 3, *size)
        assert transformer.shape == (1, 3, *(n // stem_stride for n in size))
        assert deep.shape == (1, 3, *(n // step for n in size))
        assert net.eval()(torch.randn(2, 1, *size)).shape == (2, 3, *size)


def test_the_prediction_of_eval_mode_is_the_joint_one():
    net = small_net(dropout=0.0)
    image = torch.randn(1, 1, 32, 32, 32)
    torch.testing.assert_close(net.train()(image)[0], net.eval()(image), rtol=1e-4, atol=1e-6)


def test_the_second_output_is_the_transformers_alone_and_the_others_use_both_branches():
    net = small_net()
    joint, transformer, deep = net(torch.randn(1, 1, 32, 32, 32))
    stem, embedding = net.encoder.stem[0][0].weight, net.transformer.embedding.weight
    for output, sees_convolutions in ((joint, True), (transformer, False), (deep, True)):
        gradients = torch.autograd.grad(output.square().sum(), (stem, embedding), retain_graph=True, allow_unused=True)
        assert (gradients[0] is not None) == sees_convolutions
        assert gradients[1] is not None and gradients[1].abs().max() > 0


@pytest.mark.parametrize("size", [(16, 32, 32), (40, 32, 32)])
def test_a_patch_of_another_size_is_refused_before_it_is_run(size):
    with pytest.raises(UserError, match=r"takes multiples of \[16, 16, 16\] from \[32, 32, 32\] up"):
        check_patch(small_net(), size, "TransFuse3d")


def test_the_door_lets_all_three_outputs_pass():
    verdict = probe(small_net(), (96, 96, 96), channels_out=3)
    assert verdict.output_shapes == ((2, 3, 32, 32, 32), (2, 3, 8, 8, 8), (2, 3, 2, 2, 2))


def test_logits_take_both_signs_and_leave_the_range_of_probabilities():
    net = small_net()
    for layers in (net.joint_head, net.transformer_head, net.deep_head):
        nn.init.normal_(layers[-1].weight)
    for logits in net(torch.randn(2, 1, 32, 32, 32)):
        assert logits.min() < -1
        assert logits.max() > 1


def test_it_learns_a_ball(dice_of_a_learnt_ball):
    torch.manual_seed(0)
    net = TransFuse3d(1, 1, depth=2, dropout=0.0)
    before, after = dice_of_a_learnt_ball(net, steps=20, lr=3e-3, head_weights=(0.5, 0.3, 0.2))
    assert before < 0.5
    assert after > 0.9


def test_gates_are_between_0_and_1_and_weigh_what_they_are_given():
    torch.manual_seed(0)
    features, deep = torch.randn(2, 6, 4, 5, 3), torch.randn(2, 8, 4, 5, 3)
    channel, spatial, skip = ChannelGate(6, 2), SpatialGate(), SkipGate(8, 6)
    for gate, inputs, shape in (
        (channel, (features,), (2, 6, 1, 1, 1)),
        (spatial, (features,), (2, 1, 4, 5, 3)),
        (skip, (features, deep), (2, 1, 4, 5, 3)),
    ):
        weights = gate.weights(*inputs)
        assert weights.shape == shape
        assert weights.min() > 0
        assert weights.max() < 1
        assert torch.equal(gate(*inputs), features * weights)


def test_the_channel_gate_is_that_of_the_equation():
    torch.manual_seed(0)
    gate = ChannelGate(4, 2)
    features = torch.randn(1, 4, 3, 3, 3)
    first, _, second = gate.layers
    hidden = (first.weight @ features.mean((2, 3, 4))[0] + first.bias).clamp(min=0)
    expected = 1 / (1 + torch.exp(-(second.weight @ hidden + second.bias)))
    torch.testing.assert_close(gate.weights(features)[0, :, 0, 0, 0], expected)


def test_what_is_fused_is_the_gated_features_and_their_product():
    torch.manual_seed(0)
    fusion = BiFusion(4, 6, reduction=2, dropout=0.0)
    given = []
    fusion.residual.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    convolved, attended = torch.randn(2, 4, 3, 3, 3), torch.randn(2, 6, 3, 3, 3)
    assert fusion(convolved, attended).shape == (2, 4, 3, 3, 3)
    gated, weighed, product = given[0].split([4, 6, 4], dim=1)
    torch.testing.assert_close(gated, convolved * fusion.spatial_gate.weights(convolved))
    torch.testing.assert_close(weighed, attended * fusion.channel_gate.weights(attended))
    both = [
        functional.instance_norm(functional.conv3d(features, layers[0].weight))
        for features, layers in ((convolved, fusion.of_convolutions), (attended, fusion.of_transformer))
    ]
    mixed = functional.conv3d(both[0] * both[1], fusion.bilinear[0].weight, padding=1)
    torch.testing.assert_close(product, functional.instance_norm(mixed).clamp(min=0), rtol=1e-4, atol=1e-5)


def test_attention_equals_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = TokenAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    nn.init.normal_(ours.queries_keys_values.bias)
    theirs.in_proj_weight, theirs.in_proj_bias = ours.queries_keys_values.weight, ours.queries_keys_values.bias
    theirs.out_proj.weight, theirs.out_proj.bias = ours.output.weight, ours.output.bias
    tokens = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_a_token_of_the_transformer_stays_at_its_place_and_sees_all_others():
    torch.manual_seed(0)
    net = VisionTransformer(1, token_vox=4, dim=6, depth=1, heads=2)
    image = torch.randn(1, 1, 8, 12, 4)
    features = net(image)
    assert features.shape == (1, 6, 2, 3, 1)
    # positions are zeros at first: only where cubes lie has changed
    torch.testing.assert_close(net(image.roll((4, 4), (2, 3))), features.roll((1, 1), (2, 3)))
    changed = image.clone()
    changed[..., :4, :4, :] += 1
    assert (net(changed) - features).abs().amin(dim=(0, 1)).min() > 0


@pytest.mark.parametrize(("stem_stride", "sizes"), [(4, [8, 4, 2]), (2, [16, 8, 4])])
def test_stages_of_the_encoder_halve_the_resolution(stem_stride, sizes):
    encoder = ResidualEncoder(2, [4, 6, 8], [2, 1, 1], stem_stride, dropout=0.0)
    shapes = [features.shape for features in encoder(torch.randn(1, 2, 32, 32, 32))]
    assert shapes == [(1, channels, n, n, n) for channels, n in zip([4, 6, 8], sizes, strict=True)]


def test_upsampling_places_values_as_strides_do():
    ramp = torch.tensor([0.0, 1.0])[None, None, :, None, None]
    expected = torch.tensor([0, 0.25, 0.75, 1])  # centres of halves, held at the ends
    torch.testing.assert_close(upsample(ramp, 2)[0, 0, :, 0, 0], expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": [8, 16]}, r"net.options.channels: \[8, 16\]; expected three whole numbers"),
        ({"channels": 8}, "net.options.channels: 8; expected three whole numbers"),
        ({"channels": [8, 16, 0]}, "net.options.channels: 0; expected a whole number of at least 1"),
        ({"blocks": [1, 1, "2"]}, "net.options.blocks: 2; expected a whole number"),
        ({"blocks": "222"}, "net.options.blocks: 222; expected three"),
        ({"depth": 0}, "net.options.depth: 0"),
        ({"heads": 0}, "net.options.heads: 0"),
        ({"dim": 100}, "net.options.dim: 100 is no multiple of net.options.heads, 6; expected one, such as 192"),
        ({"stem_stride": 1}, "net.options.stem_stride: 1; expected 4, or 2"),
        ({"dropout": -0.1}, "net.options.dropout: -0.1"),
    ],
)
def test_options_that_make_no_network_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        TransFuse3d(1, 2, **options)
