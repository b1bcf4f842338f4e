import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.nets.norms import BatchNorm, InstanceNorm, normalisation, quicken


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_instance_norm_equals_torch_in_values_and_gradients(layout):
    torch.manual_seed(0)
    ours, theirs = InstanceNorm(6).double(), nn.InstanceNorm3d(6, affine=True).double()
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.linspace(0.5, 1.5, 6))
            norm.bias.copy_(torch.linspace(-1, 1, 6))
    features = (3 + 2 * torch.randn(2, 6, 5, 4, 3, dtype=torch.float64)).to(memory_format=layout)
    upstream = torch.randn(features.shape, dtype=torch.float64)
    gradients = []
    for norm in (ours, theirs):
        given = features.clone().requires_grad_()
        output = norm(given)
        gradients.append((output, *torch.autograd.grad(output, (given, norm.weight, norm.bias), upstream)))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.eval()(features), gradients[0][0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 4), (8, 8), (9, 1)])
def test_group_norm_takes_the_most_groups_up_to_eight_that_divide_the_channels(channels, groups):
    assert normalisation("group", channels).num_groups == groups


@pytest.mark.parametrize(("norm", "alone"), [("instance", True), ("group", True), ("batch", False)])
def test_only_a_batch_norm_looks_at_the_other_samples(norm, alone):
    torch.manual_seed(0)
    features = torch.randn(2, 4, 3, 3, 3)
    other = torch.stack([features[0], 5 * features[1] + 1])
    layer = normalisation(norm, 4)
    assert torch.equal(layer(features)[0], layer(other)[0]) == alone


def test_a_batch_norm_refuses_to_learn_from_one_sample_and_predicts_it():
    norm = BatchNorm(4)
    with pytest.raises(UserError, match=r"net\.options\.norm: batch was given 1 sample.*sample\.batch.*norm=instance"):
        norm(torch.zeros(1, 4, 2, 2, 2))
    assert int(norm.num_batches_tracked) == 0
    assert norm.eval()(torch.zeros(1, 4, 2, 2, 2)).shape == (1, 4, 2, 2, 2)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("samples", [1, 2])
def test_a_quickened_norm_equals_torch_in_values_gradients_and_names(affine, samples):
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.InstanceNorm3d(6, affine=affine)).double() for _ in range(2))
    quicken(ours)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    features = (3 + 2 * torch.randn(samples, 6, 5, 4, 3, dtype=torch.float64)).to(memory_format=torch.channels_last_3d)
    upstream = torch.randn(features.shape, dtype=torch.float64)
    given = [features.clone().requires_grad_() for _ in range(2)]
    outputs = [ours(given[0]), theirs(given[1])]
    gradients = [torch.autograd.grad(o, g, upstream)[0] for o, g in zip(outputs, given, strict=True)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)
    assert outputs[0].is_contiguous(memory_format=torch.channels_last_3d)
    assert outputs[0]._base is None  # an activation in place on a view would copy its gradient


def test_an_instance_norm_with_running_statistics_keeps_them_when_quickened():
    norm = nn.InstanceNorm3d(2, track_running_stats=True)
    quicken(norm)
    norm(5 + torch.randn(1, 2, 3, 3, 3))
    assert bool((norm.running_mean > 0).all())
