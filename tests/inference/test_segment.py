"""From volume to segmentation: parity with MONAI, any size, the order of operations."""

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from pipeline.config.infer import InferSection
from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.inference.predict import predictor
from pipeline.inference.segment import segment, sliding_logits
from pipeline.labels import Labels
from pipeline.model import ModelFacts
from pipeline.nets.registry import build
from pipeline.volume.grid import Grid
from pipeline.volume.intensity import Intensity
from pipeline.volume.volume import Volume

INTENSITY = Intensity(window_hu=(-200, 400), gamma=1.0, mean=0.4, std=0.3)
LABELS = Labels({"bone": (1,), "fat": (2,)})


def facts_for(patch_vox: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> ModelFacts:
    return ModelFacts(
        head=Head("softmax", LABELS), labels=LABELS, spacing_mm=spacing_mm, intensity=INTENSITY, patch_vox=patch_vox,
        net=NetSection(), provenance={},
    )  # fmt: skip


def tissue_of(windows: torch.Tensor) -> torch.Tensor:
    """Logits that call a voxel bone above 150 HU, fat between -150 and -50 HU, and background else."""
    hu = (windows * INTENSITY.std + INTENSITY.mean) * 600 - 200
    bone = torch.where(hu > 150, 8.0, -8.0)
    fat = torch.where((hu > -150) & (hu < -50), 8.0, -8.0)
    return torch.cat([torch.zeros_like(hu), bone, fat], dim=1)


def two_tissues(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> tuple[Volume, np.ndarray]:
    """Return a block of fat and one of bone in a body of water within air, and the truth."""
    truth = np.zeros(shape, np.uint8)
    x, y, z = shape
    truth[x // 4 : x // 2, y // 4 : -(y // 4), z // 4 : -(z // 4)] = 1
    truth[x // 2 + 1 : -(x // 4), y // 4 : -(y // 4), z // 4 : -(z // 4)] = 2
    hu = np.full(shape, -1024, np.int16)
    hu[2:-2, 2:-2, 2:-2] = 0
    hu[truth == 1] = 300
    hu[truth == 2] = -100
    return Volume(hu, Grid(shape, np.diag([*spacing_mm, 1.0]))), truth


@pytest.mark.parametrize("shape", [(40, 33, 50), (20, 40, 24), (9, 7, 30)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_logits_equal_those_of_monai(shape: tuple[int, int, int], overlap: float) -> None:
    torch.manual_seed(0)
    net = build(NetSection(options={"channels": [4, 8]}), 1, 3).eval()
    voxels = np.random.default_rng(0).integers(-1000, 1500, shape).astype(np.int16)
    patch = (24, 24, 24)
    predict = predictor(net, Head("softmax", LABELS), InferSection(), torch.device("cpu"))
    ours = sliding_logits(voxels, predict, INTENSITY, patch, overlap=overlap, windows=2)
    with torch.no_grad():
        image = torch.from_numpy(INTENSITY.apply(voxels))[None, None]
        theirs = sliding_window_inference(
            image, patch, 2, net, overlap=overlap, mode="gaussian", padding_mode="constant", cval=INTENSITY.air()
        )
    torch.testing.assert_close(ours, theirs[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 6, 7), (24, 20, 28), (60, 30, 26)])
def test_a_volume_of_any_size_is_segmented_on_its_own_grid(shape: tuple[int, int, int]) -> None:
    volume, truth = two_tissues(shape, (1.0, 1.0, 1.0))
    result = segment(volume, tissue_of, facts_for((16, 16, 16), (1.0, 1.0, 1.0)), InferSection())
    assert result.voxels.dtype == np.uint8
    assert result.grid is volume.grid
    np.testing.assert_array_equal(result.voxels, truth)


def test_another_spacing_is_gone_to_and_come_back_from() -> None:
    volume, truth = two_tissues((40, 60, 48), (1.5, 1.0, 1.25))
    result = segment(volume, tissue_of, facts_for((16, 16, 16), (1.2, 1.2, 1.2)), InferSection(overlap=0.25))
    both = np.sum((result.voxels == 1) & (truth == 1))
    dice = 2 * both / (np.sum(result.voxels == 1) + np.sum(truth == 1))
    assert result.voxels.shape == truth.shape
    assert dice > 0.93


def test_logits_are_blended_before_they_are_decided() -> None:
    # Two windows disagree on the voxels they share. Blended logits of the stronger one win; votes would tie.
    def predict(windows: torch.Tensor) -> torch.Tensor:
        first = windows[:, :, :1, :1, :1] > 0
        bone = torch.where(first, 1.0, -5.0) * torch.ones_like(windows)
        return torch.cat([torch.zeros_like(windows), bone, torch.full_like(windows, -9.0)], dim=1)

    voxels = np.zeros((12, 8, 8), np.int16)
    voxels[0] = 1000
    logits = sliding_logits(voxels, predict, INTENSITY, (8, 8, 8), overlap=0.5, windows=1)
    shared = logits[1, 4:8, 4, 4]
    assert (shared < 1.0).all() and (shared > -5.0).all()
    assert (shared.diff() < 0).all()  # the weight moves from the first window to the second


def test_an_image_of_air_alone_is_background() -> None:
    volume = Volume(np.full((10, 12, 8), -1024, np.int16), Grid((10, 12, 8), np.eye(4)))
    result = segment(volume, tissue_of, facts_for((16, 16, 16), (1.0, 1.0, 1.0)), InferSection())
    assert not result.voxels.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    volume, _ = two_tissues((16, 16, 16), (1.0, 1.0, 1.0))
    with pytest.raises(UserError, match=r"not finite.*infer\.amp=off"):
        segment(volume, lambda w: tissue_of(w) * bad, facts_for((16,) * 3, (1.0,) * 3), InferSection())


def test_logits_of_another_head_are_refused() -> None:
    volume, _ = two_tissues((16, 16, 16), (1.0, 1.0, 1.0))
    with pytest.raises(UserError, match="channel"):
        segment(
            volume, lambda w: torch.zeros(len(w), 7, *w.shape[2:]), facts_for((16,) * 3, (1.0,) * 3), InferSection()
        )
