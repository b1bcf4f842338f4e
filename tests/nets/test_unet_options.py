import pytest

from pipeline.errors import UserError
from pipeline.nets.unet3d import UNet3d
from pipeline.nets.unet_options import stage_dropout, stage_kernels, stage_strides

STEPS = [(1, 1, 1), (2, 2, 1), (2, 2, 2)]


def test_strides_are_one_and_then_two_unless_given():
    assert stage_strides(None, 3) == [(1, 1, 1), (2, 2, 2), (2, 2, 2)]
    assert stage_strides([1, [2, 2, 1], 2], 3) == STEPS


def test_kernels_are_three_unless_given():
    assert stage_kernels(None, STEPS) == [(3, 3, 3)] * 3
    assert stage_kernels([[3, 3, 1], [3, 3, 1], 5], STEPS) == [(3, 3, 1), (3, 3, 1), (5, 5, 5)]


def test_one_dropout_is_for_all_stages():
    assert stage_dropout(0.1, 3) == [0.1, 0.1, 0.1]
    assert stage_dropout([0, 0.1, 0.2], 3) == [0.0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": [16]}, "at least two numbers"),
        ({"channels": 16}, "at least two numbers"),
        ({"channels": [16, 0]}, "net.options.channels: 0"),
        ({"channels": [16, "a"]}, "net.options.channels: a"),
        ({"convolutions": 0}, "net.options.convolutions: 0"),
        ({"decoder_convolutions": 1.5}, "net.options.decoder_convolutions: 1.5"),
        ({"strides": [1, 2]}, "for 5 stages"),
        ({"strides": 2}, "for 5 stages"),
        ({"strides": [2, 2, 2, 2, 2]}, "the first stage"),
        ({"strides": [1, 2, 2, 2, [2, 2]]}, "for each stage"),
        ({"strides": [1, 2, 2, 2, 0]}, "for each stage"),
        ({"kernels": 3}, "net.options.kernels: 3 for 5 stages"),
        ({"kernels": [3, 3, 3]}, "for 5 stages"),
        ({"kernels": [3, 3, 2, 3, 3]}, "an odd number"),
        ({"kernels": [3, 3, [3, 3], 3, 3]}, "an odd number, or three"),
        ({"kernels": [3, 3, -1, 3, 3]}, "an odd number"),
        ({"kernels": [3, [3, 3, 1], 3, 3, 3]}, r"kernels: stage 1 has kernel \[3, 3, 1\] and stride \[2, 2, 2\]"),
        ({"strides": [1, 2, 2, 2, [2, 4, 2]]}, r"strides: stage 4 has kernel \[3, 3, 3\] and stride \[2, 4, 2\]"),
        ({"norm": "layer"}, "'layer'; expected one of instance, group, batch"),
        ({"upsampling": "cubic"}, "'cubic'; expected one of nearest, linear, transposed"),
        ({"block": "dense"}, "'dense'; expected one of plain, residual"),
        ({"attention_gates": "all"}, "net.options.attention_gates: 'all'; expected true or false"),
        ({"attention_gates": 1}, "expected true or false"),
        ({"deep_supervision": 4}, "net.options.deep_supervision: 4; .* from 0 to 3 for 5 stages"),
        ({"deep_supervision": -1}, "from 0 to 3"),
        ({"deep_supervision": True}, "net.options.deep_supervision: True"),
        ({"channels": [4, 8], "deep_supervision": 1}, "1 for 2 stages; a coarser output needs at least 3 stages"),
        ({"dropout": 1.0}, "net.options.dropout: 1.0 for 5 stages; expected a number from 0 to below 1"),
        ({"dropout": -0.1}, "from 0 to below 1"),
        ({"dropout": True}, "net.options.dropout: True"),
        ({"dropout": "0.1"}, "net.options.dropout: 0.1"),
        ({"dropout": [0.1, 0.2]}, "for 5 stages"),
    ],
)
def test_options_that_make_no_network_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        UNet3d(1, 2, **options)
