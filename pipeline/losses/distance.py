"""Exact Euclidean distances by tensor operations, on whatever device the labels are."""

import torch
from torch import Tensor

from pipeline.volume.grid import Float3


def distance_to(mask: Tensor, spacing_mm: Float3) -> Tensor:
    """Return the distance in mm from each voxel's centre to the nearest one in `mask`, float32 (x, y, z).

    mask: bool (x, y, z). Infinite where it is empty. Squared distances are least sums over one axis at a time
    (Felzenszwalb and Huttenlocher 2012), compared shift by shift until none can be smaller; lines that no voxel of the
    mask can be seen from yet are left out.
    """
    squares = torch.where(mask, 0.0, torch.inf)
    along_x, along_y = _extent(mask.any(2).any(1)), _extent(mask.any(2).any(0))
    for seen, axis in (((along_x, along_y), 2), ((along_x,), 1), ((), 0)):
        squares[seen] = _least_along(squares[seen], spacing_mm[axis], axis)
    return squares.sqrt()


def _extent(holds: Tensor) -> slice:
    """Return the slice from the first to the last True; an empty one where there is none."""
    places = holds.nonzero().flatten().tolist()
    return slice(places[0], places[-1] + 1) if places else slice(0, 0)


def _least_along(squares: Tensor, step_mm: float, axis: int) -> Tensor:
    """Return min over j of squares[j] + ((i - j) step_mm)^2 for every i of an axis."""
    least = squares.clone()
    length = squares.shape[axis]
    for shift in range(1, length):
        further = (shift * step_mm) ** 2
        if not least.numel() or further >= least.max():
            break
        ahead, behind = least.narrow(axis, shift, length - shift), least.narrow(axis, 0, length - shift)
        torch.minimum(ahead, squares.narrow(axis, 0, length - shift) + further, out=ahead)
        torch.minimum(behind, squares.narrow(axis, shift, length - shift) + further, out=behind)
    return least
