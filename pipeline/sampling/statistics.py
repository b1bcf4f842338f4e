"""What is drawn, in numbers: by class, and by case."""

from collections import Counter
from collections.abc import Iterable

from pipeline.config.sample import SampleSection
from pipeline.labels import Labels
from pipeline.sampling.draw import Draw, positive_slots
from pipeline.sampling.index import Index

LARGE_SHARE = 0.1


def count_drawn(draws: Iterable[Draw], labels: Labels) -> dict[str, int]:
    """Return how many draws guarantee each class, by name; a class that none guarantees has 0."""
    counts = Counter(drawn.label for drawn in draws)
    return {name: counts[index] for index, name in enumerate(labels.names, 1)}


def case_shares(index: Index, sample: SampleSection) -> dict[str, float]:
    """Return the expected share of all samples that each case supplies, by name; they sum to 1."""
    positive = positive_slots(sample) / sample.batch
    shares = dict.fromkeys(index.cases, 0.0)
    for name in index.annotated:
        shares[name] += (1 - positive) / len(index.annotated)
    both_ways = (*index.sources, *index.mirrored_sources)
    for source in both_ways:
        for name in source.cases:
            shares[name] += positive / len(both_ways) / len(source.cases)
    return shares


def dominant_cases(index: Index, sample: SampleSection) -> dict[str, float]:
    """Return the cases that supply over a tenth of all samples, with their share; none where there are 10 or fewer.

    Such a case holds rare classes nearly alone: what is learnt of them is learnt from it.
    """
    if len(index.cases) <= 10:
        return {}
    return {name: share for name, share in case_shares(index, sample).items() if share > LARGE_SHARE}
