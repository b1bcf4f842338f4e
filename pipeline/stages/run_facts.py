"""What is told of a training run once, when it starts, for the rules that say whether it is well."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.config.config import Config
from pipeline.head import Head
from pipeline.health.examination import Extremes
from pipeline.health.hounsfield import CENTRES_HU, PICTURE, shares_of, verdict_on
from pipeline.monitor.facts import RunFacts
from pipeline.store.reader import PreparedCase
from pipeline.training.volume_scores import partners_of
from pipeline.volume.intensity import BIN_HU, bins_of

ENTROPIES = ("ce", "bce", "topk")
PICTURE_BINS = bins_of(np.array(PICTURE))
FLAT_BINS = 2  # of 10 HU: all of an image that was scaled to 0..1, or standardised, lies in them


def run_facts(
    config: Config, head: Head, net: nn.Module, parts: Iterable[str], cases: Sequence[PreparedCase], *,
    ranks: int = 1, amp: torch.dtype | None = None,
) -> RunFacts:  # fmt: skip
    """Return the facts of a run.

    parts: names of the loss's terms. cases: that are learnt from. ranks: how many processes share a batch. amp: of
    the forward pass, None for float32.
    """
    train = config.train
    steps = None if train.minutes else train.steps
    return RunFacts(
        network=config.net.name,
        head=head.kind,
        channels=head.channels,
        classes=head.labels.names,
        targets=head.target_names,
        partners=partners_of(head),
        entropy=next((part for part in parts if part in ENTROPIES), None),
        lr=train.lr,
        warmup_steps=train.warmup(steps),
        batch=config.sample.batch // (ranks * train.accumulate),
        batch_norm=any(isinstance(module, _BatchNorm) for module in net.modules()),
        not_hu=not_hu({case.name: case.histogram for case in cases}),
        cases=len(cases),
        steps=steps,
        warm=train.start_from is not None,
        amp=None if amp is None else str(amp).removeprefix("torch."),
        optimiser=train.optimiser,
    )


def not_hu(histograms: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the cases whose intensities do not look like HU, and why, from the histograms that the store keeps.

    Only what `doctor data` calls an error, and images that are all but constant: values that are HU but were cut off
    pass.
    """
    reasons = {name: reason_of(histogram) for name, histogram in histograms.items() if histogram.any()}
    return {name: reason for name, reason in reasons.items() if reason}


def reason_of(histogram: np.ndarray) -> str | None:
    """Return why a histogram that is not empty is not of HU, None where it may be.

    As far as bins of 10 HU tell: all of an end bin counts as one value where no bin is fuller, as where values were cut
    off, else none of it. Ends in the bins of 0 and 255 count as these.
    """
    ends = np.flatnonzero(histogram)[[0, -1]]
    if np.ptp(ends) < FLAT_BINS:
        return f"flat: all values within {(np.ptp(ends) + 1) * BIN_HU} of each other, near {CENTRES_HU[ends[0]]:g}"
    low, high = PICTURE if np.array_equal(ends, PICTURE_BINS) else CENTRES_HU[ends]
    low_vox, high_vox = np.where(histogram[ends] == histogram.max(), histogram[ends], 0)
    extremes = Extremes(float(low), int(low_vox), float(high), int(high_vox))
    verdict = verdict_on(shares_of(histogram, extremes), extremes)
    return f"{verdict.what}: {verdict.found}" if verdict and verdict.severity == "error" else None
