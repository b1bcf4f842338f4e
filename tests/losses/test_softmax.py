"""The gradient in closed form."""

import torch

from pipeline.labels import IGNORE
from pipeline.losses.softmax import compare_softmax


def test_the_gradient_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (2, 2, 3, 2), generator=generator).to(torch.uint8)
    labels[:, 0, 0] = IGNORE
    assert torch.autograd.gradcheck(lambda z: compare_softmax(z, labels)[:3], logits)


def test_sums_are_those_of_one_hot_targets():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 4, 3, 3, 2, generator=generator)
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
