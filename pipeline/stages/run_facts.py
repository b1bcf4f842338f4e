"""What is told of a training run once, when it starts, for the rules that say whether it is well."""

from collections.abc import Iterable, Mapping

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.config.config import Config
from pipeline.head import Head
from pipeline.health.examination import Extremes
from pipeline.health.hounsfield import CENTRES_HU, shares_of, verdict_on
from pipeline.monitor.facts import RunFacts
from pipeline.store.reader import PreparedCase
from pipeline.training.volume_scores import partners_of

ENTROPIES = ("ce", "bce")


def run_facts(
    config: Config, head: Head, net: nn.Module, parts: Iterable[str], cases: Iterable[PreparedCase]
) -> RunFacts:
    """Return the facts of a run. parts: names of the loss's terms. cases: that are learnt from."""
    train = config.train
    return RunFacts(
        network=config.net.name,
        head=head.kind,
        channels=head.channels,
        classes=head.labels.names,
        targets=head.target_names,
        partners=partners_of(head),
        entropy=next((part for part in parts if part in ENTROPIES), None),
        lr=train.lr,
        warmup_steps=train.warmup(None if train.minutes else train.steps),
        batch=config.sample.batch,
        batch_norm=any(isinstance(module, _BatchNorm) for module in net.modules()),
        not_hu=not_hu({case.name: case.histogram for case in cases}),
    )


def not_hu(histograms: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the cases whose intensities do not look like HU, and why, from the histograms that the store keeps.

    A histogram does not tell how many voxels have just the lowest or the highest value, so that values which are HU
    but were cut off are passed over here; `doctor data` names them.
    """
    found = {}
    for name, histogram in histograms.items():
        filled = CENTRES_HU[np.flatnonzero(histogram)]
        if filled.size:
            extremes = Extremes(float(filled[0]), 0, float(filled[-1]), 0)
            verdict = verdict_on(shares_of(histogram, extremes), extremes)
            if verdict is not None:
                found[name] = f"{verdict.what}: {verdict.found}"
    return found
