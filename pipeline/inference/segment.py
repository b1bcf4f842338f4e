"""From a CT to its segmentation on the same grid, in the one order of operations that exists.

Windows of the volume at the training spacing go through the network, their logits are blended, restored to the CT's
own grid by linear interpolation, and decided there. Validation and `infer` both run this code.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config.infer import InferSection
from pipeline.device import memory_format, memory_told
from pipeline.errors import UserError
from pipeline.inference.blend import Blend
from pipeline.inference.tiles import window_starts
from pipeline.model import ModelFacts
from pipeline.volume.grid import Int3, box_of
from pipeline.volume.intensity import AIR_HU, Intensity
from pipeline.volume.resample import to_training_grid
from pipeline.volume.restore import restore_slabs
from pipeline.volume.volume import Volume

Predict = Callable[[Tensor], Tensor]

TOO_LARGE = "set infer.windows=1, or use infer.device=cpu"


def predictor(net: nn.Module, device: torch.device, amp: torch.dtype | None) -> Predict:
    """Return a function from windows (n, 1, x, y, z), float32 on the CPU, to raw logits (n, C, x, y, z) on `device`."""
    net.eval()
    layout = memory_format(device)

    @torch.inference_mode()
    def predict(windows: Tensor) -> Tensor:
        with memory_told(TOO_LARGE), torch.autocast(device.type, amp, enabled=amp is not None):
            return net(windows.to(device, memory_format=layout))

    return predict


def segment(volume: Volume, predict: Predict, facts: ModelFacts, infer: InferSection) -> Volume:
    """Segment a CT of any size.

    volume: HU in RAS+ order. predict: windows (n, 1, *facts.patch_vox), float32 -> raw logits (n, C, *facts.patch_vox).
    Returns class indices (uint8, 0 background) on the grid and with the header of `volume`. The air around the body
    is background. Raises UserError where the logits do not belong to the model's head, or are not finite.
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
