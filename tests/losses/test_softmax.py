"""The gradient in closed form."""

import pytest
import torch

from pipeline.labels import IGNORE
from pipeline.losses import softmax
from pipeline.losses.softmax import compare_softmax


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_is_that_of_finite_differences(weighted):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (2, 2, 3, 2), generator=generator).to(torch.uint8)
    labels[:, 0, 0] = IGNORE
    weight = 1 + torch.rand(2, 2, 3, 2, dtype=torch.float64, generator=generator) if weighted else None
    assert torch.autograd.gradcheck(lambda z: compare_softmax(z, labels, weight)[:3], logits)


def test_sums_are_those_of_one_hot_targets():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 4, 3, 3, 2, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (2, 3, 3, 2), generator=generator).to(torch.uint8)
    labels[0, 0] = IGNORE
    surprise, error, predicted, wanted = compare_softmax(logits, labels)
    valid = (labels != IGNORE).unsqueeze(1)
    target = torch.stack([labels == c for c in range(4)], 1).float()
    p = logits.softmax(1)
    torch.testing.assert_close(surprise, -(target * p.log()).sum(1))
    torch.testing.assert_close(error, ((p - target).abs() * valid).sum((2, 3, 4))[:, 1:])
    torch.testing.assert_close(predicted, (p * valid).sum((2, 3, 4))[:, 1:])
    torch.testing.assert_close(wanted, target.sum((2, 3, 4))[:, 1:])
    assert not wanted.requires_grad


def test_the_size_of_slabs_changes_nothing_but_rounding(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 4, 5, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (2, 5, 3, 2), generator=generator).to(torch.uint8)
    labels[0, 0] = IGNORE
    found = []
    for slab_bytes in (1, 2 * 4 * 4 * 6, 2**30):  # one, two and all planes at a time
        monkeypatch.setitem(softmax.SLAB_BYTES, "cpu", slab_bytes)
        values = compare_softmax(logits, labels)
        gradient = torch.autograd.grad(values[0].sum() + 2 * values[1].sum() - 3 * values[2].sum(), logits)[0]
        found.append((*values, gradient))
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[1], found[2])


def test_voxel_weights_count_in_the_sums():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 3, 3, 2, generator=generator)
    labels = torch.randint(0, 4, (2, 3, 3, 2), generator=generator).to(torch.uint8)
    labels[0, 0] = IGNORE
    weight = 1 + torch.rand(labels.shape, generator=generator)
    surprise, error, predicted, wanted = compare_softmax(logits, labels, weight)
    counts = (weight * (labels != IGNORE)).unsqueeze(1)
    target = torch.stack([labels == c for c in range(4)], 1).float()
    p = logits.softmax(1)
    assert torch.equal(surprise, compare_softmax(logits, labels)[0])
    torch.testing.assert_close(error, ((p - target).abs() * counts).sum((2, 3, 4))[:, 1:])
    torch.testing.assert_close(predicted, (p * counts).sum((2, 3, 4))[:, 1:])
    torch.testing.assert_close(wanted, (target * counts).sum((2, 3, 4))[:, 1:])
