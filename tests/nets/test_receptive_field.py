import pytest
import torch
from torch import nn

from pipeline.config.net import NetSection
from pipeline.nets.receptive_field import Field, NoGradient, receptive_field
from pipeline.nets.registry import build

NOT_WHOLE = (False, False, False)


def made_of(*layers):
    net = nn.Sequential(*layers)
    net.multiple_vox = net.smallest_vox = (1, 1, 1)
    return net


@pytest.mark.parametrize(
    ("layers", "size"),
    [
        ([nn.Conv3d(1, 2, 1)], (1, 1, 1)),
        ([nn.Conv3d(1, 2, 3, padding=1)], (3, 3, 3)),
        ([nn.Conv3d(1, 4, (3, 3, 1), padding=(1, 1, 0)), nn.LeakyReLU(), nn.Conv3d(4, 2, 3, padding=1)], (5, 5, 3)),
        ([nn.Conv3d(1, 2, 3, padding=2, dilation=2)], (5, 5, 5)),
        # voxel 128 becomes place 64 of the half, which sees 63 to 65, and these voxels 125 to 131
        ([nn.Conv3d(1, 4, 3, 2, padding=1), nn.Conv3d(4, 2, 3, padding=1), nn.Upsample(scale_factor=2)], (7, 7, 7)),
    ],
)
def test_the_field_of_convolutions_is_known_by_hand(layers, size):
    assert receptive_field(made_of(*layers), 1, (32, 32, 32)) == Field(size, NOT_WHOLE)


@pytest.mark.parametrize("norm", [nn.InstanceNorm3d(4), nn.GroupNorm(1, 4), nn.BatchNorm3d(4)])
def test_norms_are_left_out(norm):
    net = made_of(nn.Conv3d(1, 4, 3, padding=1), norm, nn.Conv3d(4, 2, 3, padding=1))
    assert receptive_field(net, 1, (32, 32, 32)).size_vox == (5, 5, 5)
    image = torch.randn(1, 1, 8, 8, 8)
    assert not torch.equal(net(image), net[2](net[0](image)))  # in the network itself they are still there


def test_global_pooling_sees_everything():
    class Excited(nn.Module):
        multiple_vox = smallest_vox = (1, 1, 1)

        def __init__(self):
            super().__init__()
            self.layer = nn.Conv3d(1, 2, 1)

        def forward(self, image):
            features = self.layer(image)
            return features * features.mean((2, 3, 4), keepdim=True)

    assert receptive_field(Excited(), 1, (32, 32, 32)) == Field((256, 256, 256), (True, True, True))


def test_a_network_made_for_one_size_is_measured_on_its_patch():
    class OneSize(nn.Conv3d):
        multiple_vox = smallest_vox = (1, 1, 1)

        def forward(self, image):
            return super().forward(image) + torch.zeros(24, 24, 24)

    assert receptive_field(OneSize(1, 2, 3, padding=1), 1, (24, 24, 24)) == Field((3, 3, 3), NOT_WHOLE)


def test_a_network_that_cannot_be_run_says_why():
    with pytest.raises(RuntimeError, match="to have 2 channels"):
        receptive_field(made_of(nn.Conv3d(2, 2, 1)), 1, (24, 24, 24))


def test_a_last_layer_that_begins_at_0_sees_nothing_yet():
    last = nn.Conv3d(4, 2, 1)
    nn.init.zeros_(last.weight)
    with pytest.raises(NoGradient, match="a last layer that begins at 0"):
        receptive_field(made_of(nn.Conv3d(1, 4, 3, padding=1), last), 1, (32, 32, 32))


def test_a_u_net_sees_further_along_the_axes_that_it_shrinks():
    net = build(NetSection(options={"channels": [4, 8, 8], "strides": [1, [2, 2, 1], [2, 2, 1]]}), 1, 2)
    field = receptive_field(net, 1, (32, 32, 32))
    # x, from voxel 128 back: 126..130 by the last stage, 63..65 at a half, 61..67 by the stage there, 30..33 and 29..34
    # at a quarter, 57..69 at the half by the stride and 56..70, 111..141 by the other stride, 109..143 by the first.
    # z: two convolutions of 3 in each of five stages.
    assert field == Field((35, 35, 21), NOT_WHOLE)
