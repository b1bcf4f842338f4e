"""What is drawn, in numbers: by class, and by case."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.config.sample import SampleSection
from pipeline.labels import Labels
from pipeline.sampling.draw import positive_slots
from pipeline.sampling.index import Index

LARGE_SHARE = 0.1


def count_drawn(guaranteed: Iterable[int | None], labels: Labels) -> dict[str, int]:
    """Return how many draws guarantee each class, by name; a class that none guarantees has 0.

    guaranteed: the label of each draw, None where it guarantees none.
    """
    counts = Counter(guaranteed)
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


def dominant_cases(shares: Mapping[str, float]) -> dict[str, float]:
    """Return the cases that supply over a tenth of all samples, with their share; none where there are 10 or fewer.

    Such a case holds rare classes nearly alone: what is learnt of them is learnt from it.
    """
    if len(shares) <= 10:
        return {}
    return {name: share for name, share in shares.items() if share > LARGE_SHARE}


class Tally:
    """How many patches of a run were drawn for each class and from each case.

    classes, cases: their names; one that is never drawn is counted too. since_step: the first step that is counted.
    """

    def __init__(self, classes: Iterable[str], cases: Iterable[str], since_step: int = 1) -> None:
        self.since_step = since_step
        self.by_class = dict.fromkeys(classes, 0)
        self.by_case = dict.fromkeys(cases, 0)

    def add(self, drawn: Mapping[str, int], cases: Iterable[str]) -> None:
        """Count a step. drawn: positive patches by class, see `count_drawn`. cases: where each patch came from."""
        for name, count in drawn.items():
            self.by_class[name] += count
        for name in cases:
            self.by_case[name] += 1

    def class_shares(self) -> dict[str, float]:
        """Return the share of the positive patches that each class has; {} where there is none yet."""
        return shares(self.by_class)

    def case_shares(self) -> dict[str, float]:
        """Return the share of all patches that each case supplied, the largest first; {} where there is none yet."""
        found = shares(self.by_case)
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {"since_step": self.since_step, "by_class": self.by_class, "by_case": self.by_case}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Tally":
        """Return what `to_json` gave."""
        tally = cls(saved["by_class"], saved["by_case"], saved["since_step"])
        tally.by_class, tally.by_case = dict(saved["by_class"]), dict(saved["by_case"])
        return tally


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Return each count over their sum; {} where that is 0."""
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}
