"""From a CT to its segmentation on the same grid, in the one order of operations that exists.

Windows of the volume at the training spacing go through the network, their logits are blended, restored to the CT's
own grid by linear interpolation, and decided there. Validation and `infer` both run this code.
"""

import numpy as np
import torch
from torch import Tensor

from pipeline.config.infer import InferSection
from pipeline.errors import UserError
from pipeline.inference.blend import Blend
from pipeline.inference.postprocess import keep_largest
from pipeline.inference.predict import Predict
from pipeline.inference.tiles import window_starts
from pipeline.model import ModelFacts
from pipeline.volume.grid import Int3, box_of
from pipeline.volume.intensity import AIR_HU, Intensity
from pipeline.volume.resample import to_training_grid
from pipeline.volume.restore import restore_slabs
from pipeline.volume.volume import Volume


def segment(volume: Volume, predict: Predict, facts: ModelFacts, infer: InferSection) -> Volume:
    """Segment a CT of any size.

    volume: HU in RAS+ order. predict: windows (n, 1, *facts.patch_vox), float32 -> raw logits (n, C, *facts.patch_vox).
    Returns class indices (uint8, 0 background) on the grid and with the header of `volume`. The air around the body
    is background, and so is what `infer.keep_largest` takes away once it is decided. Raises UserError where the logits
    do not belong to the model's head or are not finite, and where `infer.keep_largest` names no class.
    """
    prepared, start_vox, shape_vox = to_training_grid(volume, facts.spacing_mm)
    logits = sliding_logits(
        prepared.voxels, predict, facts.intensity, facts.patch_vox, overlap=infer.overlap, windows=infer.windows
    )
    facts.head.check(logits[None])
    if not torch.isfinite(logits.sum(dtype=torch.float64)):
        raise UserError("the network's logits are not finite on this CT; set infer.amp=off, or train the model again.")
    encoded = np.zeros(volume.grid.shape_vox, np.uint8)
    body = encoded[box_of(start_vox, shape_vox)]
    target = volume.grid.crop(start_vox, shape_vox)
    for slab, restored in restore_slabs(logits.numpy(), prepared.grid, target):
        body[slab] = facts.head.decide(torch.from_numpy(restored)).numpy()
    keep_largest(encoded, facts.labels.indices_of(infer.keep_largest, "infer.keep_largest"))
    return Volume(encoded, volume.grid, volume.header)


def sliding_logits(
    voxels_hu: np.ndarray, predict: Predict, intensity: Intensity, patch_vox: Int3, *, overlap: float, windows: int
) -> Tensor:
    """Return the blended raw logits (C, x, y, z), float32, of a volume (x, y, z) at the training spacing.

    A volume smaller than a patch is centred in air. `windows` patches go through `predict` at a time. Equal to MONAI's
    `sliding_window_inference` with mode="gaussian" and air as padding.
    """
    lack = [max(0, p - n) for p, n in zip(patch_vox, voxels_hu.shape, strict=True)]
    before = (lack[0] // 2, lack[1] // 2, lack[2] // 2)
    image = np.pad(voxels_hu, [(b, n - b) for b, n in zip(before, lack, strict=True)], constant_values=AIR_HU)
    blend = Blend(image.shape, patch_vox)
    starts = window_starts(image.shape, patch_vox, overlap)
    for first in range(0, len(starts), windows):
        group = starts[first : first + windows]
        patches = [intensity.apply(image[box_of(start, patch_vox)]) for start in group]
        batch = torch.from_numpy(np.stack(patches)[:, None])
        for start, logits in zip(group, predict(batch), strict=True):
            blend.add(start, logits)
    return blend.mean()[:, *box_of(before, voxels_hu.shape)].contiguous()
