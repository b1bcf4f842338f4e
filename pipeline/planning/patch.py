"""The largest patch of the body's shape that a number of voxels allows."""

from math import floor, inf, prod

from pipeline.volume.grid import Float3, Int3

THIN_VOX = 16  # an axis is not cut below this, or below what the body has, for the shape's sake


def ideal_patch(shape_vox: Int3, voxels: float) -> Float3:
    """Return the size, in fractions of voxels, that has the shape's proportions and so many voxels; the shape at most.

    An axis of few voxels keeps 16 of them, or all that there are, and the others give way: cut in proportion, a stack
    of 30 slices would be left with a few, and they cost little. So it may have more voxels where that is all.
    """
    least = [float(min(size, THIN_VOX)) for size in shape_vox]
    held: set[int] = set()
    while True:
        free = [axis for axis in range(3) if axis not in held]
        rest = voxels / prod(least[axis] for axis in held)
        scale = min(1.0, (rest / prod(shape_vox[axis] for axis in free)) ** (1 / len(free))) if free else 1.0
        thin = {axis for axis in free if shape_vox[axis] * scale < least[axis]}
        if not thin:
            x, y, z = (least[axis] if axis in held else shape_vox[axis] * scale for axis in range(3))
            return x, y, z
        held |= thin


def legal_patch(ideal_vox: Float3, shape_vox: Int3, voxels: float, multiple: Int3, smallest: Int3) -> Int3:
    """Return a patch near the ideal one in multiples of `multiple`, from `smallest` up: as large as voxels allow.

    Each axis is rounded down; then the axis that lost most grows by one multiple as long as the patch stays within
    `voxels`, and within the shape, rounded up. Only the smallest patch there is may have more voxels.
    """
    low = [round_up(size, step) for size, step in zip(smallest, multiple, strict=True)]
    high = [max(least, round_up(size, step)) for least, size, step in zip(low, shape_vox, multiple, strict=True)]
    patch = [
        min(most, max(least, floor(size / step) * step))
        for least, size, step, most in zip(low, ideal_vox, multiple, high, strict=True)
    ]
    while prod(patch) > voxels and patch != low:  # the smallest size of an axis was more than its share
        shrunk = max((axis for axis in range(3) if patch[axis] > low[axis]), key=lambda axis: patch[axis] / high[axis])
        patch[shrunk] -= multiple[shrunk]
    while True:
        grown = [
            axis for axis in range(3)
            if patch[axis] < high[axis] and prod(patch) // patch[axis] * (patch[axis] + multiple[axis]) <= voxels
        ]  # fmt: skip
        if not grown:
            return patch[0], patch[1], patch[2]
        axis = min(grown, key=lambda axis: patch[axis] / ideal_vox[axis])
        patch[axis] += multiple[axis]


def halved(patch_vox: Int3, multiple: Int3, smallest: Int3) -> Int3:
    """Return a patch of about half the edges that is as legal: the smaller one of two that are measured."""
    sizes = zip(patch_vox, multiple, smallest, strict=True)
    x, y, z = (max(round_up(least, step), floor(size / 2 / step) * step) for size, step, least in sizes)
    return x, y, z


def round_up(size: float, step: int) -> int:
    """Return the next multiple of `step` from a size on."""
    return int(-(-size // step)) * step


def batch_of(voxels: float, patch_voxels: int, data_voxels: float) -> tuple[int, str]:
    """Return how many patches a step takes, and why: two at least, more where the whole body leaves room.

    No more than a twentieth of the data set in one step (nnU-Net): a step should not be an epoch.
    """
    room = floor(voxels / patch_voxels)
    most = floor(data_voxels / 20 / patch_voxels) if data_voxels < inf else room
    if min(room, most) <= 2:
        return 2, "the smallest that is not one: what a step may take goes to the patch first"
    if room <= most:
        return room, "as many as the limit leaves room for beside the patch"
    return most, "more patches in one step would be over a twentieth of the data set"
