"""Class weights from how often classes occur."""

from collections.abc import Mapping
from statistics import median

from torch import Tensor, tensor

from pipeline.head import Head


def class_weights_of(counts: Mapping[int, int], head: Head) -> Tensor:
    """Return what each of a head's channels counts so that rare classes are not drowned: float32 (C,), above 0.

    counts: class index -> its voxels in the training cases; 255 and what has no channel are left out.
    The weight is sqrt(median n / n), n the voxels of a channel, of a region's union under such a head: the square root
    of median frequency balancing (Eigen and Fergus 2015), whose own weights of a CT's classes can differ thousandfold.
    A channel without voxels has weight 1.
    """
    unions = [(0,), *head.targets] if head.kind == "softmax" else head.targets
    voxels = [sum(counts.get(index, 0) for index in union) for union in unions]
    found = [number for number in voxels if number]
    return tensor([(median(found) / number) ** 0.5 if number else 1.0 for number in voxels])
