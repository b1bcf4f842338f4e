"""Learned positions of tokens on a 3D grid."""

import torch
from torch import Tensor, nn
from torch.nn import functional

TABLE_FOR_VOX = 96  # the patch whose tokens have an entry each; other patches interpolate between entries


class PositionTable(nn.Module):
    """Adds to every token a learned vector for its place, zeros at first.

    The table is a grid of vectors and no list, so that an input of any size and shape finds its own by trilinear
    interpolation: corners of the grid stand for corners of the input.

    channels: of a token. token_vox: side of the cube of voxels that a token stands for.
    """

    def __init__(self, channels: int, token_vox: int) -> None:
        super().__init__()
        side = max(1, TABLE_FOR_VOX // token_vox)
        self.table = nn.Parameter(torch.zeros(1, channels, side, side, side))

    def forward(self, tokens: Tensor) -> Tensor:
        """Float (B, channels, x, y, z), a token a voxel, to the same with positions added."""
        grid = tokens.shape[2:]
        if grid == self.table.shape[2:]:
            return tokens + self.table
        return tokens + functional.interpolate(self.table, size=grid, mode="trilinear", align_corners=False)
