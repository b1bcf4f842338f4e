"""Whole volumes: resampling, inference and scores, against MONAI's; see `bench/monai.py`."""

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.metrics import DiceMetric, HausdorffDistanceMetric
from monai.transforms import AsDiscrete, Spacing, SpatialResample

from bench.monai_measure import Row, Sides, peak_row, seconds_row
from bench.monai_scans import INTENSITY, Scan, example_scan, made_scan, tensor_of
from pipeline.head import Head
from pipeline.inference.segment import sliding_logits
from pipeline.metrics.score import score_case
from pipeline.volume.grid import Float3
from pipeline.volume.intensity import AIR_HU
from pipeline.volume.resample import resample_image, resample_labels
from pipeline.volume.restore import restore_slabs

TRAINING_MM: Float3 = (1.5, 1.5, 1.5)  # of the made scan
WINDOW = (96, 96, 96)
OVERLAP = 0.25
SHIFT_VOX = (2, 1, 0)  # from truth to prediction


def resampling() -> list[Row]:
    """Return the lines of bringing CT and labels to another spacing."""
    return resampling_rows(example_scan(), (3.0, 3.0, 3.0)) + resampling_rows(made_scan(), TRAINING_MM)


def resampling_rows(scan: Scan, spacing_mm: Float3) -> list[Row]:
    """Return the lines of one scan. Ours has one way for images, cubic, and one for labels, linear by class."""
    grid = scan.image.grid
    target = grid.at_spacing(spacing_mm)
    image, labels = tensor_of(scan.image.voxels.astype(np.float32), grid), tensor_of(scan.encoded, grid)
    bilinear, nearest, cubic = (
        Spacing(spacing_mm, mode=mode, padding_mode=padding, dtype=torch.float32)
        for mode, padding in (("bilinear", "border"), ("nearest", "border"), (3, "nearest"))
    )
    split, decide = AsDiscrete(to_onehot=len(scan.labels.names) + 1), AsDiscrete(argmax=True)

    def our_image() -> object:
        return resample_image(scan.image.voxels, grid, target, AIR_HU)

    def our_labels() -> object:
        return resample_labels(scan.encoded, grid, target)

    return [
        seconds_row(f"{scan.name}: CT, cubic", (our_image, lambda: cubic(image))),
        seconds_row(f"{scan.name}: CT, cubic against bilinear", (our_image, lambda: bilinear(image))),
        seconds_row(f"{scan.name}: labels, linear by class", (our_labels, lambda: decide(bilinear(split(labels))))),
        seconds_row(f"{scan.name}: labels, by class against nearest", (our_labels, lambda: nearest(labels))),
    ]


def inference() -> list[Row]:
    """Return the lines of going from a CT on the training grid to 14 classes on its own."""
    what = "256x256x200: windows, restored, 14 classes"
    return [seconds_row(what, inference_sides()), peak_row(f"{what}, memory", inference_sides)]


@torch.inference_mode()
def inference_sides() -> Sides:
    """Return both ways with a network that costs nothing; MONAI's gets the CT windowed already."""
    scan = made_scan()
    grid = scan.image.grid.at_spacing(TRAINING_MM)
    voxels_hu = np.rint(resample_image(scan.image.voxels, scan.image.grid, grid, AIR_HU)).astype(np.int16)
    windowed = torch.from_numpy(INTENSITY.apply(voxels_hu))[None, None]
    head = Head("softmax", scan.labels)
    net = torch.nn.Conv3d(1, head.channels, 1)
    own = scan.image.grid

    @torch.inference_mode()
    def ours() -> np.ndarray:
        logits = sliding_logits(voxels_hu, net, INTENSITY, WINDOW, overlap=OVERLAP, windows=2)
        encoded = np.zeros(own.shape_vox, np.uint8)
        for slab, restored in restore_slabs(logits.numpy(), grid, own):
            encoded[slab] = head.decide(torch.from_numpy(restored)).numpy()
        return encoded

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        logits = sliding_window_inference(windowed, WINDOW, 2, net, overlap=OVERLAP, mode="gaussian")
        restore = SpatialResample(mode="bilinear", padding_mode="border", dtype=torch.float32)
        on_grid = MetaTensor(logits[0], affine=torch.from_numpy(grid.affine_mm.copy()))
        restored = restore(on_grid, dst_affine=torch.from_numpy(own.affine_mm.copy()), spatial_size=own.shape_vox)
        return AsDiscrete(argmax=True)(restored)

    return ours, theirs


def metrics() -> list[Row]:
    """Return the lines of scoring a prediction that is the truth, shifted."""
    return metrics_rows(example_scan()) + metrics_rows(made_scan())


def metrics_rows(scan: Scan) -> list[Row]:
    """Return the lines of one scan; MONAI's metrics take one channel a class, which has to be made."""
    spacing_mm = scan.image.grid.spacing_mm
    prediction = np.roll(scan.encoded, SHIFT_VOX, axis=(0, 1, 2))
    truth, predicted = (torch.from_numpy(array)[None] for array in (scan.encoded, prediction))
    split = AsDiscrete(to_onehot=len(scan.labels.names) + 1)
    overlap, distance = DiceMetric(include_background=False), HausdorffDistanceMetric(percentile=95)

    def ours(*names: str) -> object:
        return score_case(scan.encoded, prediction, spacing_mm, scan.labels, names)

    def their_dice() -> object:
        return overlap(y_pred=[split(predicted)], y=[split(truth)])

    def their_both() -> object:
        channels = {"y_pred": [split(predicted)], "y": [split(truth)]}
        return overlap(**channels), distance(**channels, spacing=spacing_mm)

    what = f"{scan.name}, {len(scan.labels.names)} classes"
    return [
        seconds_row(f"{what}: Dice", (lambda: ours("dice"), their_dice)),
        seconds_row(f"{what}: Dice and HD95", (lambda: ours("dice", "hd95_mm"), their_both), repeats=2),
    ]
