"""What a network said on the training grid, brought back to the CT's grid slab by slab."""

from collections.abc import Iterator

import numpy as np

from pipeline.volume.grid import Grid
from pipeline.volume.interpolate import Banded, axis_positions, linear_matrix


def restore_slabs(logits: np.ndarray, source: Grid, target: Grid, slab: int = 16) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (x slice of `target`, logits there) by linear interpolation, until every x of `target` was given once.

    logits: (C, x, y, z) float32 on `source`. What is given: (C, n, Y, Z) float32 with n <= `slab`, so that memory
    follows a slab. Beyond the centres of the outermost voxels of `source` their values go on.
    Raises UserError where the two grids' axes are not parallel.
    """
    matrix_x, matrix_y, matrix_z = (
        linear_matrix(axis_positions(source, target, axis), source.shape_vox[axis]) for axis in range(3)
    )
    along_y, along_z = Banded.of(matrix_y), Banded.of(matrix_z)
    for first in range(0, target.shape_vox[0], slab):
        rows = Banded.of(matrix_x[first : first + slab])
        yield slice(first, first + rows.rows), along_z.along(along_y.along(rows.along(logits, 1), 2), 3)
