"""Terms that look at the shapes of objects: on the prediction at the labels' own resolution, each (B,), at least 0.

p is the probability, t the target in {0, 1} of a foreground channel; the mean over channels is weighted by class
weight. Distances are in mm, over valid voxels inside the patch: neither the patch's border nor an ignored voxel is a
boundary. A channel that a sample does not hold, or that fills it, has no boundary and no centre line there, and does
not count; where no channel counts a term is 0, with gradient 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.head import Head
from pipeline.losses.distance import distance_to
from pipeline.volume.grid import Float3

TUBE_RADIUS_VOX = 2  # as published
ALONG_AXES = ((3, 1, 1), (1, 3, 1), (1, 1, 3))


@dataclass(frozen=True, eq=False)
class Objects:
    """Foreground channels at the labels' resolution.

    probability: float32 (B, F, x, y, z). target: bool of that shape, False where ignored. valid: bool (B, 1, x, y, z).
    class_weights: float32 (F,).
    """

    probability: Tensor
    target: Tensor
    valid: Tensor
    class_weights: Tensor


ShapeTerm = Callable[[Objects], Tensor]


def see_objects(logits: Tensor, labels: Tensor, head: Head, class_weights: Tensor) -> Objects:
    """Return the objects in a prediction and in its labels.

    logits: float32 (B, C, x, y, z); at another resolution than the labels they are interpolated linearly to theirs.
    labels: uint8 (B, X, Y, Z), 255 where ignored. class_weights: float32 (C,).
    """
    if logits.shape[2:] != labels.shape[1:]:
        logits = functional.interpolate(logits, labels.shape[1:], mode="trilinear", align_corners=False)
    shares, valid = head.target(labels)
    first = head.channels - len(head.targets)  # softmax has background before its classes
    return Objects(head.probability(logits)[:, first:], shares[:, first:] > 0, valid, class_weights[first:])


def boundary(objects: Objects, *, spacing_mm: Float3, warm_up: bool) -> Tensor:
    """Return the mean over valid voxels and channels of d |p - t|, d the distance to the boundary in mm.

    For binary t that is the mean of phi p, phi the distance to the boundary and negative inside, plus the constant
    -(mean of phi t) that makes a perfect mask 0 (Kervadec et al. 2019). d runs to the nearest voxel's centre of the
    other side, less half the smallest spacing, so that both sides of a face are equally far from it.
    warm_up: each channel counts in proportion to its soft Dice, 2 sum p t / (sum p + sum t), taken as a constant: far
    errors cost most, so that the term would lead while nothing is found yet. As the weight follows from the sample
    alone there is no schedule to save, and a resumed run has the same bits.
    """
    outside, inside = objects.valid & ~objects.target, objects.target
    exists = inside.flatten(2).any(2) & outside.flatten(2).any(2)
    distance = torch.zeros_like(objects.probability)
    for b, c in exists.nonzero().tolist():
        other = torch.where(inside[b, c], distance_to(outside[b, c], spacing_mm), distance_to(inside[b, c], spacing_mm))
        distance[b, c] = (other - min(spacing_mm) / 2) * objects.valid[b, 0]
    error = torch.where(inside, 1 - objects.probability, objects.probability)
    voxels = objects.valid.flatten(1).sum(1, keepdim=True).clamp_min(1)
    costs = (distance * error).flatten(2).sum(2) / voxels
    if warm_up:
        costs = costs * _soft_dice(objects)
    return _mean(costs, exists * objects.class_weights)


def skeleton_recall(objects: Objects, *, spacing_mm: Float3, channels: tuple[int, ...]) -> Tensor:
    """Return the mean over channels of 1 - sum s p / sum s, s the target's centre line made two voxels thick.

    Kirchhoff et al. 2024, with `centre_line` in place of their thinning. channels: which foreground channels are tubes.
    """
    costs, counted = [], []
    for channel in channels:
        target = objects.target[:, channel]
        tube = _thickened(centre_line(target, objects.valid[:, 0], spacing_mm)) & target
        size = tube.flatten(1).sum(1)
        missed = torch.where(tube, 1 - objects.probability[:, channel], 0).flatten(1).sum(1)
        costs.append(missed / size.clamp_min(1))
        counted.append((size > 0) * objects.class_weights[channel])
    return _mean(torch.stack(costs, 1), torch.stack(counted, 1))


def centre_line(target: Tensor, valid: Tensor, spacing_mm: Float3) -> Tensor:
    """Return the ridge of the distance to what is outside: bool (B, x, y, z), a part of `target`.

    target, valid: bool (B, x, y, z). A voxel is on the ridge if none of its 26 neighbours is deeper by more than half
    the smallest spacing, so that every object has one and a tube of one or two voxels is its own; unlike a thinned
    skeleton it may have gaps. Empty where a target is empty, or where nothing valid is outside it.
    """
    ridge = torch.zeros_like(target)
    for b in range(len(target)):
        outside = valid[b] & ~target[b]
        if not (outside.any() and target[b].any()):
            continue
        depth_mm = torch.where(target[b], distance_to(outside, spacing_mm), 0)
        deepest = functional.max_pool3d(depth_mm[None], 3, stride=1, padding=1)[0]
        ridge[b] = target[b] & (depth_mm >= deepest - min(spacing_mm) / 2)
    return ridge


def _thickened(mask: Tensor) -> Tensor:
    """Return a mask with what is up to TUBE_RADIUS_VOX steps along the axes away; bool (B, x, y, z)."""
    thick = mask.float()
    for _ in range(TUBE_RADIUS_VOX):
        along = [functional.max_pool3d(thick, size, 1, [s // 2 for s in size]) for size in ALONG_AXES]
        thick = torch.stack(along).amax(0)
    return thick > 0


def _soft_dice(objects: Objects) -> Tensor:
    """Return 2 sum p t / (sum p + sum t) of each channel, (B, F), without a gradient; 0 where both are empty."""
    p = objects.probability.detach() * objects.valid
    size = (p + objects.target).flatten(2).sum(2)
    return 2 * (p * objects.target).flatten(2).sum(2) / torch.where(size > 0, size, 1)


def _mean(costs: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum(1)
    return (weights * costs).sum(1) / torch.where(total > 0, total, 1)
