"""The peers' side of `bench/augment.py`; it runs in their environment, and nothing of this project is imported.

python -m bench.augment_peers FOLDER

Reads lines [peer, chain, patches, seconds] of JSON, makes so many patches, or as many as it can in that time, and
answers each with [patches, seconds].
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import monai.transforms as monai
import numpy as np
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from monai.data import MetaTensor
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

PATCH = (96, 96, 96)
ROTATION = (-math.pi / 6, math.pi / 6)
KEYS = ("image", "label")
Patch = Callable[[], object]


def nnunet(folder: Path, chain: str) -> Patch:
    """Return nnU-Net's own loader with its default transforms, on its own files."""
    dataset = nnunet_dataset(folder)
    transforms = nnUNetTrainer.get_training_transforms(PATCH, ROTATION, None, (0, 1, 2), False, [False])
    if chain != "default":
        make_certain(transforms, elastic="elastic" in chain)
    classes = SimpleNamespace(all_labels=[], has_ignore_label=False)  # asked about the ignore label only
    initial = get_patch_size(PATCH, ROTATION, ROTATION, ROTATION, (0.85, 1.25))
    loader = nnUNetDataLoader(dataset, 1, initial, PATCH, classes, 1.0, transforms=transforms)
    return loader.generate_train_batch


def nnunet_dataset(folder: Path) -> nnUNetDatasetBlosc2:
    """Write the cases as nnU-Net's preprocessing does, and open them."""
    target = folder / "nnunet"
    if not target.exists():
        target.mkdir()
        for file in sorted(folder.glob("*.npz")):
            arrays = np.load(file)
            labels = arrays["labels"].astype(np.int16)[None]
            places = {label: np.argwhere(labels == label)[:10_000] for label in np.unique(labels).tolist() if label}
            blocks, chunks = comp_blosc2_params(labels.shape, PATCH)
            nnUNetDatasetBlosc2.save_case(
                arrays["image"][None], labels, {"class_locations": places}, str(target / file.stem),
                chunks=chunks, blocks=blocks, chunks_seg=chunks, blocks_seg=blocks,
            )  # fmt: skip
    return nnUNetDatasetBlosc2(str(target))


def make_certain(transforms: object, elastic: bool) -> None:
    """Turn every one of nnU-Net's default transforms on in every patch, and elastic deformation where asked for."""
    for transform in transforms.transforms:
        if isinstance(transform, SpatialTransform):
            transform.p_rotation = transform.p_scaling = 1
            transform.p_elastic_deform = int(elastic)
        elif isinstance(transform, RandomTransform):
            transform.apply_probability = 1
            if hasattr(transform.transform, "p_per_channel"):
                transform.transform.p_per_channel = 1


def monai_chain(folder: Path, chain: str, indices_kept: bool) -> Patch:
    """Return MONAI's crop and transforms with the content and the probabilities of ours, on volumes in memory."""
    cases = cycle(monai_cases(folder))
    transform = monai.Compose([monai_crop(indices_kept), *monai_transforms(certain=chain != "default")])
    return lambda: transform(next(cases))


@cache
def monai_cases(folder: Path) -> list[dict]:
    """Return the cases as MONAI's dictionary transforms take them, with the places of fore- and background."""
    cases = []
    for file in sorted(folder.glob("*.npz")):
        arrays = np.load(file)
        case = {
            "image": MetaTensor(torch.from_numpy(arrays["image"][None])),
            "label": MetaTensor(torch.from_numpy(arrays["labels"][None])),
        }
        cases.append(monai.FgBgToIndicesd("label")(case))
    return cases


def monai_crop(indices_kept: bool) -> monai.Transform:
    """Return MONAI's crop about a foreground voxel; where indices are not kept it looks for them in each call."""
    kept = {"fg_indices_key": "label_fg_indices", "bg_indices_key": "label_bg_indices"} if indices_kept else {}
    return monai.RandCropByPosNegLabeld(KEYS, "label", PATCH, pos=1, neg=0, num_samples=1, **kept)


def monai_transforms(certain: bool) -> Iterator[monai.Transform]:
    """Yield what MONAI has for each transform of nnU-Net's default; rotation and scale share one interpolation."""

    def chance(probability: float) -> float:
        return 1.0 if certain else probability

    yield monai.RandAffined(
        KEYS, prob=chance(0.36), rotate_range=(math.pi / 6,) * 3, scale_range=((-0.3, 0.4),) * 3,
        mode=("bilinear", "nearest"), padding_mode="border",
    )  # fmt: skip
    yield monai.RandGaussianNoised("image", prob=chance(0.1), std=0.1)
    smoothed = {f"sigma_{axis}": (0.5, 1.0) for axis in "xyz"}
    yield monai.RandGaussianSmoothd("image", prob=chance(0.1), **smoothed)
    yield monai.RandScaleIntensityd("image", factors=0.25, prob=chance(0.15))
    yield monai.RandScaleIntensityFixedMeand("image", factors=0.25, prob=chance(0.15))
    yield monai.RandSimulateLowResolutiond("image", prob=chance(0.125), zoom_range=(0.5, 1.0))
    yield monai.RandAdjustContrastd("image", prob=chance(0.1), gamma=(0.7, 1.5), invert_image=True)
    yield monai.RandAdjustContrastd("image", prob=chance(0.3), gamma=(0.7, 1.5))
    for axis in range(3):
        yield monai.RandFlipd(KEYS, prob=0.5, spatial_axis=axis)


def main() -> None:
    """Answer questions until there are no more."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])

    @cache
    def side(peer: str, chain: str) -> Patch:
        return nnunet(folder, chain) if peer == "nnU-Net" else monai_chain(folder, chain, "kept" in peer)

    for line in sys.stdin:
        peer, chain, patches, longest_s = json.loads(line)
        patch = side(peer, chain)
        made, start = 0, time.perf_counter()
        while made < patches and time.perf_counter() - start < longest_s:
            patch()
            made += 1
        print(json.dumps([made, time.perf_counter() - start]), flush=True)


if __name__ == "__main__":
    main()
