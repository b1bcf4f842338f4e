"""What the network's output channels mean: the one place that turns logits into probabilities and classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.labels import IGNORE, Labels

KINDS = ("softmax", "sigmoid", "regions")
CHANNEL = -4  # the channel axis of (..., C, x, y, z)


@dataclass(frozen=True)
class Head:
    """The rule of the output channels.

    kind: softmax - channel 0 is background and channel i is class i, exactly one holds in a voxel;
        sigmoid - channel i stands for class i + 1, each says yes or no by itself;
        regions - channel i stands for `labels.regions[i]`, a union of classes, each says yes or no by itself.
    threshold: probability at and above which a channel of sigmoid or regions says yes; softmax has no use for it.
    """

    kind: str
    labels: Labels
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"head.kind: {self.kind!r} is unknown; expected one of {', '.join(KINDS)}.")
        if not 0 < self.threshold < 1:
            raise UserError(f"head.threshold: {self.threshold} is no probability between 0 and 1, both excluded.")
        if self.kind == "regions" and not self.labels.regions:
            raise UserError("head.kind: regions needs a list of regions, and labels has none; add labels.regions.")

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the foreground channels, in their order."""
        if self.kind == "regions":
            return tuple(region.name for region in self.labels.regions)
        return self.labels.names

    @property
    def targets(self) -> tuple[tuple[int, ...], ...]:
        """The class indices whose union each foreground channel stands for."""
        if self.kind == "regions":
            return tuple(tuple(self.labels.index(name) for name in region.classes) for region in self.labels.regions)
        return tuple((self.labels.index(name),) for name in self.labels.names)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of all channels: `target_names`, under softmax after "background"."""
        return ("background", *self.target_names) if self.kind == "softmax" else self.target_names

    @property
    def channels(self) -> int:
        """The number of channels that a network under this head has to give."""
        return len(self.channel_names)

    @property
    def swapped_channels(self) -> tuple[int, ...]:
        """The channel that each channel turns into when left and right are mirrored, by `labels.swap`.

        Raises UserError where mirroring turns a region into a union of classes that is none of the regions.
        """
        unions = [frozenset(union) for union in (((0,), *self.targets) if self.kind == "softmax" else self.targets)]
        partners = [frozenset(self.labels.swapped(index) for index in union) for union in unions]
        alone = [name for name, partner in zip(self.channel_names, partners, strict=True) if partner not in unions]
        if alone:
            raise UserError(
                f"infer.mirror: mirroring on x turns {', '.join(alone)} into classes that are no region of "
                "labels.regions; add the mirrored region, or leave x out."
            )
        return tuple(unions.index(partner) for partner in partners)

    def check(self, logits: Tensor) -> None:
        """Raise UserError unless logits are floating point and of shape (..., C, x, y, z) with this head's channels."""
        if not logits.is_floating_point():
            raise UserError(f"network output is {logits.dtype}; a head expects floating point logits.")
        found = logits.shape[CHANNEL] if logits.ndim >= 4 else None
        if found != self.channels:
            names = ", ".join(self.channel_names)
            raise UserError(
                f"network output has shape {tuple(logits.shape)}; a {self.kind} head over {names} expects "
                f"(..., {self.channels}, x, y, z). Give the network {self.channels} output channels, or "
                "use the head and labels that it was trained with."
            )

    def probability(self, logits: Tensor) -> Tensor:
        """Map logits (..., C, x, y, z) of any floating type to float32 probabilities of the same shape."""
        self.check(logits)
        logits = logits.float()
        return torch.softmax(logits, CHANNEL) if self.kind == "softmax" else torch.sigmoid(logits)

    def logits(self, probability: Tensor) -> Tensor:
        """Map probabilities (..., C, x, y, z) back to finite float32 logits that `probability` maps onto them.

        Under softmax that is log p, with p at least the smallest normal float32 (-87.3). Else it is log p - log(1 - p),
        with p kept one float32 epsilon away from 0 and from 1 (-15.9 to 15.9), so that yes and no are treated alike.
        """
        self.check(probability)
        limits = torch.finfo(torch.float32)
        if self.kind == "softmax":
            return probability.float().clamp_min(limits.tiny).log()
        return torch.logit(probability.float(), eps=limits.eps)

    def decide(self, logits: Tensor) -> Tensor:
        """Map logits (..., C, x, y, z) to class indices, uint8 (..., x, y, z); 0 is background.

        softmax: the most probable class. sigmoid: the most probable among those at or above the threshold, background
        where there is none. Ties go to the lower class. regions: every channel at or above the threshold writes its
        region's class, in list order, so that later ones overwrite earlier ones.
        Probability rises with the logit, so that logits are compared and no probability is computed.
        """
        self.check(logits)
        if self.kind == "regions":
            decided = logits.new_zeros(logits.shape[:CHANNEL] + logits.shape[CHANNEL + 1 :], dtype=torch.uint8)
            for region, channel in zip(self.labels.regions, logits.unbind(CHANNEL), strict=True):
                decided.masked_fill_(self._says_yes(channel), self.labels.index(region.write))
            return decided
        # max with both results is several times quicker than argmax on a CPU, and equally gives the first of equals
        largest, channel = logits.max(CHANNEL)
        if self.kind == "softmax":
            return channel.to(torch.uint8)
        return torch.where(self._says_yes(largest), channel + 1, 0).to(torch.uint8)

    def _says_yes(self, channel: Tensor) -> Tensor:
        return channel.float() >= lowest_logit(self.threshold)

    def target(self, labels: Tensor, shape_vox: tuple[int, int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Return what a perfect network would say, at the labels' own resolution or averaged down to `shape_vox`.

        labels: class indices, uint8 (B, x, y, z), 255 where ignored.
        Returns shares, float32 (B, C, *shape_vox), and the voxels that count, bool (B, 1, *shape_vox). A share is the
        part of a coarse voxel's valid voxels that belongs to the channel: 0 or 1 at full resolution, and above 0
        wherever a single voxel does. A coarse voxel counts if any of its voxels is valid; shares are 0 where none is.
        Sizes that do not divide are averaged over the overlapping bins of adaptive average pooling.
        """
        classes = ((0,), *self.targets) if self.kind == "softmax" else self.targets
        valid = (labels != IGNORE).unsqueeze(1)
        if shape_vox is None or shape_vox == tuple(labels.shape[1:]):
            return torch.stack([belongs(labels, union) for union in classes], 1).float(), valid

        def average(mask: Tensor) -> Tensor:
            return functional.adaptive_avg_pool3d(mask.float(), shape_vox)

        valid_share = average(valid)
        member_shares = [average(belongs(labels, union).unsqueeze(1)) for union in classes]
        # the floor only stands in for 0 where nothing is valid: one valid voxel in a bin of any size is far above it
        shares = torch.cat(member_shares, 1) / valid_share.clamp_min(torch.finfo(torch.float32).tiny)
        return shares, valid_share > 0


def belongs(labels: Tensor, union: Sequence[int]) -> Tensor:
    """Return where a voxel's class index is one of `union`: bool, of the shape of labels."""
    mask = labels == union[0]
    for index in union[1:]:
        mask |= labels == index
    return mask


def lowest_logit(threshold: float) -> float:
    """Return the lowest float32 logit whose probability, rounded to float32, is at or above the threshold as float32.

    So `decide` says what comparing `probability` with the threshold would. A probability rounds to the threshold from
    half way to the float32 below it.
    """
    upper = np.float32(threshold)
    limit = (float(upper) + float(np.nextafter(upper, np.float32(0)))) / 2
    exact = math.log(limit) - math.log1p(-limit)
    logit = np.float32(exact)
    return float(logit if float(logit) >= exact else np.nextafter(logit, np.float32(np.inf)))
