import pytest
import torch

from pipeline.nets.upsample import UPSAMPLINGS, Upsampling, crop


@pytest.mark.parametrize("kind", UPSAMPLINGS)
def test_every_axis_grows_by_its_stride(kind):
    assert Upsampling(3, 2, (2, 1, 3), kind)(torch.randn(1, 3, 4, 5, 2)).shape == (1, 2, 8, 5, 6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("nearest", [0, 0, 4, 4]), ("linear", [0, 1, 3, 4])],  # centres of fine voxels at 1/4 and 3/4 of a coarse one
)
def test_interpolated_values_are_those_derived_by_hand(kind, expected):
    upsampling = Upsampling(1, 1, (2, 1, 1), kind)
    torch.nn.init.ones_(upsampling.convolution.weight)
    torch.nn.init.zeros_(upsampling.convolution.bias)
    found = upsampling(torch.tensor([0.0, 4.0]).view(1, 1, 2, 1, 1))
    torch.testing.assert_close(found.flatten(), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("kind", ["nearest", "linear"])
def test_the_convolution_may_come_first_as_it_commutes_with_interpolation(kind):
    torch.manual_seed(0)
    upsampling = Upsampling(3, 2, (2, 2, 3), kind).double()
    features = torch.randn(2, 3, 3, 4, 2, dtype=torch.float64)
    mode = upsampling.mode
    after = upsampling.convolution(torch.nn.functional.interpolate(features, scale_factor=(2, 2, 3), mode=mode))
    torch.testing.assert_close(upsampling(features), after)


def test_cropping_keeps_the_near_end():
    line = torch.arange(4.0).view(1, 1, 4, 1, 1)
    assert crop(line, torch.zeros(1, 5, 3, 1, 1)).flatten().tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["nearest", "linear"])
def test_one_sample_leaves_in_the_layout_that_convolutions_want(kind):
    upsampled = Upsampling(4, 2, (2, 2, 2), kind)(torch.randn(1, 4, 4, 4, 4))
    assert upsampled.is_contiguous(memory_format=torch.channels_last_3d)
