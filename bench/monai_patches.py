"""Drawing and changing patches, against MONAI's random transforms; see `bench/monai.py`."""

from itertools import count
from math import pi
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from monai.data import list_data_collate
from monai.transforms import (
    Compose,
    FgBgToIndicesd,
    RandAdjustContrastd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    Transform,
)

from bench.monai_measure import Row, Side, seconds_row
from bench.monai_scans import INTENSITY, Scan, example_scan, made_scan, tensor_of
from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.sampling.batch import make_batch
from pipeline.sampling.index import Index, build_index
from pipeline.store.reader import PreparedCase
from pipeline.store.writer import write_case

KEYS = ("image", "label")
PATCH = (96, 96, 96)
SAMPLE = SampleSection(patch_vox=PATCH, batch=2, positive=0.5)
LESION_DRAWS = 200

UNCHANGED = AugmentSection(preset="none")
CHANGED = AugmentSection(
    preset="none", rotation_probability=1, scale_probability=1, noise_probability=1, brightness_probability=1,
    contrast_probability=1, gamma_probability=1,
)  # fmt: skip


def patches() -> list[Row]:
    """Return the lines of batches of two patches of 96^3 voxels, and of how many lack a lesion."""
    with TemporaryDirectory() as folder:
        rows = []
        for scan in (example_scan(), made_scan()):
            rows += rows_of_scan(scan, store(scan, Path(folder) / scan.name))
        lesion = with_lesion(made_scan())
        return [*rows, row_of_lesion(lesion, store(lesion, Path(folder) / "lesion"))]


def rows_of_scan(scan: Scan, index: Index) -> list[Row]:
    """Return the lines of plain and of changed patches of a scan."""
    data, indexed = monai_data(scan), FgBgToIndicesd("label")(monai_data(scan))
    what = f"{scan.name}: a 96-cube patch"
    plain, changed = ours(index, UNCHANGED), ours(index, CHANGED)
    return [
        seconds_row(what, (plain, theirs(crop(), data)), repeats=5, each=SAMPLE.batch),
        seconds_row(f"{what}, indices kept", (plain, theirs(crop_indexed(), indexed)), repeats=5, each=SAMPLE.batch),
        seconds_row(f"{what}, changed", (changed, theirs(monai_changes(), indexed)), repeats=5, each=SAMPLE.batch),
    ]


def row_of_lesion(scan: Scan, index: Index) -> Row:
    """Return the line of the share of batches of two in which no patch has a voxel of the lesion."""
    data, transform = FgBgToIndicesd("label")(monai_data(scan)), crop_indexed()
    without_ours = without_theirs = 0
    for step in range(LESION_DRAWS):
        without_ours += not make_batch(index, SAMPLE, UNCHANGED, INTENSITY, 0, step).labels.any()
        without_theirs += not any(patch["label"].any() for patch in transform(data))
    shares = (100 * without_ours / LESION_DRAWS, 100 * without_theirs / LESION_DRAWS)
    return ["batches of 2 without the 3-cube lesion", *(f"{share:.3g} %" for share in shares), ""]


def store(scan: Scan, folder: Path) -> Index:
    """Write a scan as a prepared case, and return the index of a store that has nothing else."""
    shape = scan.image.grid.shape_vox
    write_case(
        *(folder, "case", scan.image, scan.encoded),
        key="",
        source_grid=scan.image.grid,
        crop=((0, 0, 0), shape),
        put_back={},
        sources={},
    )
    return build_index([PreparedCase.open(folder)], Head("softmax", scan.labels))


def with_lesion(scan: Scan) -> Scan:
    """Return the scan with no organ but a lesion of 3x3x3 voxels."""
    encoded = np.zeros_like(scan.encoded)
    encoded[150:153, 120:123, 60:63] = 1
    labels = type(scan.labels)({"lesion": (1,)})
    return Scan(scan.name, scan.image, encoded, labels)


def ours(index: Index, augment: AugmentSection) -> Side:
    """Return what makes the next batch from the store, windowed."""
    steps = count()
    return lambda: make_batch(index, SAMPLE, augment, INTENSITY, 0, next(steps))


def theirs(transform: Transform, data: dict) -> Side:
    """Return what makes the next batch from the volume in memory, which is windowed already."""
    return lambda: list_data_collate(transform(data))


def monai_data(scan: Scan) -> dict:
    """Return a scan as MONAI's dictionary transforms take it."""
    grid = scan.image.grid
    return {"image": tensor_of(INTENSITY.apply(scan.image.voxels), grid), "label": tensor_of(scan.encoded, grid)}


def crop() -> Transform:
    """Return MONAI's crop, which looks for foreground and background in every call."""
    return RandCropByPosNegLabeld(KEYS, "label", PATCH, num_samples=SAMPLE.batch)


def crop_indexed() -> Transform:
    """Return MONAI's crop with the foreground and background that `FgBgToIndicesd` found."""
    return RandCropByPosNegLabeld(
        KEYS, "label", PATCH, num_samples=SAMPLE.batch, fg_indices_key="label_fg_indices",
        bg_indices_key="label_bg_indices",
    )  # fmt: skip


def monai_changes() -> Transform:
    """Return MONAI's transforms that do what the preset `default` does, with certainty."""
    return Compose(
        [
            crop_indexed(),
            RandAffined(
                KEYS, prob=1, rotate_range=(pi / 6,) * 3, scale_range=((-0.3, 0.4),) * 3, mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandGaussianNoised("image", prob=1, std=0.1),
            RandScaleIntensityd("image", factors=0.25, prob=1),
            RandScaleIntensityFixedMeand("image", factors=0.25, prob=1),
            RandAdjustContrastd("image", prob=1, gamma=(0.7, 1.5)),
        ]
    )  # fmt: skip
