import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.nets.channel_transformer import ChannelAttention, Reconstruction
from pipeline.nets.position_table import PositionTable
from pipeline.nets.probe import probe
from pipeline.nets.registry import check_patch
from pipeline.nets.uctransnet3d import ChannelCrossAttention, UCTransNet3d

SMALL = {"width": 4, "heads": 2, "layers": 2}


def small_net(**options):
    torch.manual_seed(0)
    return UCTransNet3d(1, 3, **SMALL | options)


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_parameters_of_every_part_are_those_of_the_equations():
    net = UCTransNet3d(1, 1)
    # 27 (1x16 + 16x32 + 32x32 + 32x64 + 64x64 + 64x128 + 3 x 128x128), norms 2 (16 + 2 (32 + 64 + 128 + 128))
    assert count(net.encoder) == 27 * 65_040 + 1_440
    # 16^3 16^2 + 8^3 32^2 + 4^3 64^2 + 2^3 128^2 weights, 240 biases, 6^3 positions of 240 channels
    assert count(net.transformer.embeddings) == 1_966_080 + 240 + 216 * 240
    # 4 layers: keys and values 2 x 4 x 240^2; queries 4 x 21,760 and outputs 21,760 with 16^2 + 32^2 + 64^2 + 128^2 =
    # 21,760; perceptrons 8 x 21,760 + 5 x 240; two norms of 2 x 240 for the levels and one for all
    assert count(net.transformer.layers) == 4 * (460_800 + 5 * 21_760 + 8 * 21_760 + 1_200 + 3 * 480)
    assert count(net.transformer.norms) == 480
    assert count(net.transformer.reconstructions) == 21_760 + 480
    # 27 (256x64 + 64x64 + 128x32 + 32x32 + 64x16 + 16x16 + 32x16 + 16x16) and norms; gates 2 (21,760 + 240)
    assert count(net.decoder) == 27 * 27_648 + 4 * (64 + 32 + 16 + 16) + 2 * 22_000
    assert count(net.head) == 17
    assert count(net) == 7_574_705


def test_smaller_tokens_move_parameters_from_embeddings_to_positions():
    # 1,966,080 (1 - 1/8) weights less, (12^3 - 6^3) 240 positions more
    assert count(UCTransNet3d(1, 1, token_vox=8)) == 7_574_705 - 1_720_320 + 362_880


@pytest.mark.parametrize(("token_vox", "multiple", "smallest"), [(16, 16, 32), (8, 16, 32), (24, 48, 48)])
def test_it_runs_at_its_smallest_size_and_at_one_that_is_no_cube(token_vox, multiple, smallest):
    net = small_net(token_vox=token_vox)
    assert net.multiple_vox == (multiple,) * 3
    assert net.smallest_vox == (smallest,) * 3
    for size in ((smallest,) * 3, (smallest, smallest + multiple, smallest)):
        check_patch(net, size, "UCTransNet3d")
        assert net.train()(torch.randn(1, 1, *size)).shape == (1, 3, *size)
        assert net.eval()(torch.randn(2, 1, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("size", [(16, 32, 32), (40, 32, 32)])
def test_a_patch_of_another_size_is_refused_before_it_is_run(size):
    with pytest.raises(UserError, match=r"takes multiples of \[16, 16, 16\] from \[32, 32, 32\] up"):
        check_patch(small_net(), size, "UCTransNet3d")


def test_the_door_lets_it_pass_with_one_output():
    verdict = probe(small_net(), (96, 96, 96), channels_out=3)
    assert verdict.output_shapes == ((2, 3, 32, 32, 32),)


def test_logits_take_both_signs_and_leave_the_range_of_probabilities():
    net = small_net().eval()
    nn.init.normal_(net.head.weight)
    logits = net(torch.randn(1, 1, 32, 32, 32))
    assert logits.min() < -1
    assert logits.max() > 1


def test_it_learns_a_ball(dice_of_a_learnt_ball):
    torch.manual_seed(0)
    before, after = dice_of_a_learnt_ball(UCTransNet3d(1, 1, layers=2), steps=16, lr=3e-3)
    assert before < 0.5
    assert after > 0.8


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_reconstruction_on_tokens_equals_the_published_order_at_full_resolution(layout):
    torch.manual_seed(0)
    ours = Reconstruction(6).double()
    nn.init.uniform_(ours.block[1].weight, 0.5, 1.5)
    nn.init.normal_(ours.block[1].bias)
    cells = torch.randn(2, 6, 3, 2, 2, dtype=torch.float64).to(memory_format=layout)
    skip = torch.randn(2, 6, 12, 8, 8, dtype=torch.float64).to(memory_format=layout)
    spread = functional.conv3d(functional.interpolate(cells, scale_factor=4, mode="nearest"), ours.block[0].weight)
    normed = functional.instance_norm(spread, weight=ours.block[1].weight, bias=ours.block[1].bias)
    torch.testing.assert_close(ours(cells, skip), skip + functional.relu(normed), rtol=1e-9, atol=1e-9)


def attention_case():
    torch.manual_seed(0)
    attention = ChannelAttention([3, 5], heads=2, dropout=0.1).eval()
    return attention, [torch.randn(2, 7, 3), torch.randn(2, 7, 5)], torch.randn(2, 7, 8)


def test_attention_equals_the_equations_head_by_head():
    attention, levels, joined = attention_case()
    answers = attention(levels, joined)
    for level, query, output, answer in zip(levels, attention.queries, attention.outputs, answers, strict=True):
        width = level.shape[2]
        total = torch.zeros_like(level)
        for head in range(2):
            q = level @ query.weight[head * width : (head + 1) * width].T
            k = joined @ attention.keys.weight[head * 8 : (head + 1) * 8].T
            v = joined @ attention.values.weight[head * 8 : (head + 1) * 8].T
            similarity = (q.transpose(1, 2) @ k / 8**0.5)[:, None]
            total += (functional.instance_norm(similarity)[:, 0].softmax(-1) @ v.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(answer, output(total / 2))


def test_attention_is_over_channels_so_that_the_order_of_tokens_does_not_change_its_maps():
    attention, levels, joined = attention_case()
    order = torch.randperm(7)
    maps, permuted = (
        attention.weights(attention.queries[1](level), attention.keys(together))
        for level, together in ((levels[1], joined), (levels[1][:, order], joined[:, order]))
    )
    assert maps.shape == (2, 2, 5, 8)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 2, 5))
    torch.testing.assert_close(maps, permuted)
    for answer, moved in zip(
        attention(levels, joined), attention([level[:, order] for level in levels], joined[:, order]), strict=True
    ):
        torch.testing.assert_close(answer[:, order], moved)


def test_the_channels_of_one_skip_look_at_those_of_all_others():
    net = small_net(dropout=0.0)
    skips = [torch.randn(1, 4 << i, 32 >> i, 32 >> i, 32 >> i, requires_grad=True) for i in range(4)]
    net.transformer(skips)[0].sum().backward()
    assert all(skip.grad.abs().max() > 0 for skip in skips[1:])


def test_the_gate_is_between_0_and_1_and_is_that_of_the_equation():
    torch.manual_seed(0)
    gate = ChannelCrossAttention(4)
    skip, below = torch.randn(2, 4, 4, 4, 4), torch.randn(2, 4, 2, 2, 2)
    scores = skip.mean((2, 3, 4)) @ gate.of_skip.weight.T + gate.of_skip.bias
    scores = scores + below.mean((2, 3, 4)) @ gate.of_below.weight.T + gate.of_below.bias
    expected = 1 / (1 + torch.exp(-scores / 2))
    weights = gate.weights(skip, below)
    assert weights.min() > 0
    assert weights.max() < 1
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(gate(skip, below), (expected[:, :, None, None, None] * skip).clamp(min=0))


def test_positions_are_zero_at_first_and_are_interpolated_to_grids_of_other_sizes():
    table = PositionTable(1, token_vox=48)  # a grid of 2 x 2 x 2
    assert torch.equal(table(torch.ones(1, 1, 3, 3, 3)), torch.ones(1, 1, 3, 3, 3))
    with torch.no_grad():
        table.table[:, :, 1] = 1.0
    assert torch.equal(table(torch.zeros(1, 1, 2, 2, 2)), table.table)
    # centres of four cells over two lie at -0.25, 0.25, 0.75, 1.25 of theirs, and are held at the ends
    expected = torch.tensor([0, 0.25, 0.75, 1])[:, None].expand(4, 5)
    torch.testing.assert_close(table(torch.zeros(1, 1, 4, 5, 1))[0, 0, :, :, 0], expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 0}, "net.options.width: 0; expected a whole number of at least 1"),
        ({"heads": 1.5}, "net.options.heads: 1.5"),
        ({"layers": True}, "net.options.layers: True"),
        ({"token_vox": 12}, "net.options.token_vox: 12; expected a multiple of 8"),
        ({"dropout": 1}, "net.options.dropout: 1; expected a number from 0 up to but not 1"),
    ],
)
def test_options_that_make_no_network_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        UCTransNet3d(1, 2, **options)
