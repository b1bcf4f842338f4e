import torch
from torch import nn
from torch.nn import functional

from pipeline.config.net import NetSection
from pipeline.nets.count import multiply_adds
from pipeline.nets.registry import build


def test_a_convolution_takes_a_multiply_add_for_each_weight_and_output_voxel():
    # 8 outputs of 2 inputs and 27 places, then 3 of 8 at half the size along each axis
    net = nn.Sequential(nn.Conv3d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 3, 1, stride=2))
    assert multiply_adds(net, (8, 6, 4), 2) == 8 * 2 * 27 * 8 * 6 * 4 + 3 * 8 * 4 * 3 * 2


def test_a_transposed_convolution_takes_one_for_each_weight_and_input_voxel():
    assert multiply_adds(nn.ConvTranspose3d(2, 3, 2, stride=2), (4, 4, 4), 2) == 2 * 3 * 8 * 4**3


def test_attention_is_counted_by_its_two_matrix_products():
    class Attention(nn.Module):
        def forward(self, image):
            tokens = image.flatten(2).transpose(1, 2)[:, None]  # (1, 1, 64 tokens, 5 channels)
            return functional.scaled_dot_product_attention(tokens, tokens, tokens)

    assert multiply_adds(Attention(), (4, 4, 4), 5) == 2 * 64 * 64 * 5


def test_recomputing_blocks_changes_nothing_in_prediction():
    counts = [
        multiply_adds(build(NetSection(options={"channels": [4, 8]}, checkpoint=mode), 1, 2), (8, 8, 8), 1)
        for mode in ("none", "blocks")
    ]
    assert counts[0] == counts[1] > 0
    assert isinstance(counts[0], int)


def test_the_weights_stay_where_they_were():
    net = nn.Conv3d(1, 1, 1)
    before = net.weight.clone()
    multiply_adds(net, (2, 2, 2), 1)
    assert torch.equal(net.weight, before)
