"""Mirror images of a window are averaged as probabilities, with left and right exchanged."""

import pytest
import torch
from torch import nn

from pipeline.config.infer import InferSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.inference.predict import mirrored, predictor
from pipeline.labels import Labels, Region

LABELS = Labels({"Left": (1,), "Right": (2,), "Middle": (3,)}, swap=(("Left", "Right"),))


def sides(windows: torch.Tensor) -> torch.Tensor:
    """Logits that call the half with small x Left and the other Right, whatever is seen: not a mirror-true network."""
    left = torch.zeros_like(windows)
    left[:, :, : windows.shape[2] // 2] = 4.0
    return torch.cat([torch.zeros_like(windows), left, 4.0 - left, torch.full_like(windows, -3.0)], dim=1)


def test_without_axes_the_network_speaks_alone() -> None:
    net = nn.Conv3d(1, 4, 1)
    predict = predictor(net, Head("softmax", LABELS), InferSection(), torch.device("cpu"))
    windows = torch.randn(2, 1, 4, 4, 4)
    assert not net.training
    torch.testing.assert_close(predict(windows), net(windows))


def test_what_exchanges_sides_in_the_mirror_is_agreed_upon() -> None:
    head = Head("softmax", LABELS)
    windows = torch.zeros(1, 1, 4, 2, 2)
    both = mirrored(sides, head, ("x",))(windows)
    # Mirrored, the network calls the other half Left, which mirrored back and exchanged is what it said before.
    torch.testing.assert_close(head.probability(both), head.probability(sides(windows)))


def test_images_are_averaged_as_probabilities() -> None:
    head = Head("sigmoid", Labels({"bone": (1,)}))

    def dark_first(windows: torch.Tensor) -> torch.Tensor:
        logits = torch.full_like(windows, 2.0)
        logits[:, :, 0] = -2.0
        return logits

    mean = head.probability(mirrored(dark_first, head, ("x",))(torch.zeros(1, 1, 3, 1, 1)))
    yes, no = torch.sigmoid(torch.tensor(2.0)), torch.sigmoid(torch.tensor(-2.0))
    torch.testing.assert_close(mean.flatten(), torch.stack([(yes + no) / 2, yes, (yes + no) / 2]))


@pytest.mark.parametrize(("axes", "images"), [(("y",), 2), (("y", "z"), 4), (("x", "y", "z"), 8)])
def test_every_combination_of_axes_is_looked_at(axes: tuple[str, ...], images: int) -> None:
    seen: list[torch.Tensor] = []

    def noting(windows: torch.Tensor) -> torch.Tensor:
        seen.append(windows.clone())
        return torch.zeros(1, 4, 2, 2, 2)

    mirrored(noting, Head("softmax", LABELS), axes)(torch.arange(8.0).reshape(1, 1, 2, 2, 2))
    assert len({tuple(windows.flatten().tolist()) for windows in seen}) == images


def test_a_region_without_a_partner_in_the_mirror_is_refused() -> None:
    labels = Labels(LABELS.values, (Region("left part", ("Left", "Middle"), "Left"),), swap=LABELS.swap)
    with pytest.raises(UserError, match=r"infer\.mirror: .*left part"):
        mirrored(sides, Head("regions", labels), ("x",))


def test_regions_that_mirror_into_each_other_exchange_their_channels() -> None:
    regions = (
        Region("l", ("Left", "Middle"), "Left"),
        Region("all", ("Left", "Right"), "Left"),
        Region("r", ("Right", "Middle"), "Right"),
    )
    assert Head("regions", Labels(LABELS.values, regions, swap=LABELS.swap)).swapped_channels == (2, 1, 0)
    assert Head("softmax", LABELS).swapped_channels == (0, 2, 1, 3)
    assert Head("sigmoid", LABELS).swapped_channels == (1, 0, 2)
