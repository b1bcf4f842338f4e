"""What tests of whole networks share."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pipeline.config.loss import LossSection
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.losses.build import build as build_loss

SIDE_VOX = 32


def noisy_ball() -> tuple[torch.Tensor, torch.Tensor]:
    """Return two noisy images (2, 1, 32, 32, 32) of the same ball, and its labels (2, 32, 32, 32), uint8."""
    x, y, z = torch.meshgrid(*[torch.arange(SIDE_VOX)] * 3, indexing="ij")
    ball = ((x - 15) ** 2 + (y - 13) ** 2 + (z - 18) ** 2 < 8**2).expand(2, SIDE_VOX, SIDE_VOX, SIDE_VOX)
    noise = torch.randn(ball.shape, generator=torch.Generator().manual_seed(0))
    return (ball + 0.7 * noise)[:, None], ball.to(torch.uint8)


@pytest.fixture
def dice_of_a_learnt_ball() -> Callable[..., tuple[float, float]]:
    """Train a network with one output channel on one ball; return Dice before and after."""

    def learn(net: nn.Module, steps: int, lr: float, head_weights: tuple[float, ...] = ()) -> tuple[float, float]:
        head = Head("sigmoid", Labels({"ball": (1,)}))
        loss = build_loss(LossSection(), head, head_weights)
        image, labels = noisy_ball()

        def dice() -> float:
            with torch.no_grad():
                found = head.decide(net.eval()(image))
            return float(2 * (found * labels).sum() / (found.sum() + labels.sum()))

        before = dice()
        optimiser = torch.optim.AdamW(net.parameters(), lr)
        for _ in range(steps):
            optimiser.zero_grad()
            loss(net.train()(image), labels).mean().backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
            optimiser.step()
        return before, dice()

    return learn


@pytest.fixture
def one_step() -> Callable[[nn.Module, torch.Tensor], list[torch.Tensor]]:
    """Make one backward pass under a fixed seed; return the outputs, then every parameter's gradient."""

    def step(net: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(1)
        answer = net.train()(image)
        outputs = [answer] if isinstance(answer, torch.Tensor) else answer
        sum(output.square().mean() for output in outputs).backward()
        return [*outputs, *(weight.grad for weight in net.parameters())]

    return step
