"""Numbers along x, y and z, which may be given as one for all three."""

from collections.abc import Sequence
from math import prod

from pipeline.volume.grid import Int3


def by_axis(given: int | Sequence[int]) -> Int3:
    """Return a number for all axes, or one for each."""
    x, y, z = (given,) * 3 if isinstance(given, int) else given
    return int(x), int(y), int(z)


def product_of(strides: Sequence[int | Sequence[int]]) -> Int3:
    """Return the product of all strides, each given as in `by_axis`, along each axis; 1 where there is none."""
    steps = [by_axis(stride) for stride in strides]
    x, y, z = (prod(step[axis] for step in steps) for axis in range(3))
    return x, y, z
