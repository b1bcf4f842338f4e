"""Adding windows up to one volume, each weighted by how far its voxels lie from its border."""

import torch
from torch import Tensor

from pipeline.volume.grid import Int3, box_of

SIGMA_SHARE = 0.125  # deviation of the Gaussian as a share of the window, as in nnU-Net and MONAI
SMALLEST_WEIGHT = 1e-3


def gaussian_weights(window_vox: Int3) -> Tensor:
    """Return float32 weights (x, y, z) of a window: a Gaussian around its centre, at least 1e-3, so that none vanishes.

    Equal to MONAI's `compute_importance_map` in its Gaussian mode.
    """
    weights = torch.ones(())
    for size in window_vox:
        distance = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        profile = torch.exp(-(distance**2) / (2 * (SIGMA_SHARE * size) ** 2))
        weights = weights[..., None] * profile
    return weights.clamp(min=max(float(weights.min()), SMALLEST_WEIGHT))


class Blend:
    """The weighted mean of overlapping windows of logits over a volume."""

    def __init__(self, shape_vox: Int3, window_vox: Int3) -> None:
        self.shape_vox, self.window_vox = shape_vox, window_vox
        self.weights = gaussian_weights(window_vox)
        self.total: Tensor | None = None
        self.weight = torch.zeros(shape_vox)

    def add(self, start_vox: Int3, logits: Tensor) -> None:
        """Add one window's logits (C, x, y, z), whose first voxel is `start_vox` of the volume."""
        if self.total is None:
            self.total = torch.zeros(len(logits), *self.shape_vox)
        box = box_of(start_vox, self.window_vox)
        self.total[:, *box].addcmul_(logits.to("cpu", torch.float32), self.weights)
        self.weight[box] += self.weights

    def mean(self) -> Tensor:
        """Return the blended logits (C, x, y, z), float32. Every voxel must have been covered; ends the blending."""
        assert self.total is not None, "no window was added"
        return self.total.div_(self.weight)
