"""What many scores say together: means over cases and classes, with what was missed counted in."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np

from pipeline.metrics.score import QUALITY, Score

STATES = ("both", "missed", "false_alarm", "absent")


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """Summarise scores as a JSON value; a mean over nothing is None. What is said of classes holds of regions too.

    cases: how many cases there are.
    mean: for each quality metric the mean over cases of the mean over classes. A missed class and a false alarm
        count with their worst value, a class that is absent on both sides does not count.
    detected_mean: the same over the classes that both sides have; to be read beside `detected_count`, the number of
        them over all cases, of `truth_count` that the truth has.
    labels: for each class the number of cases in each state, and for each metric mean, std (of the population),
        median and count, and the mean and count of the detected.
    """
    quality = [metric for metric in QUALITY if any(score.metric == metric for score in scores)]
    detected = [score for score in scores if score.state == "both"]
    states = Counter(state for _, _, state in _states(scores))
    return {
        "cases": len({score.case for score in scores}),
        "mean": {metric: _mean_of_cases(scores, metric) for metric in quality},
        "detected_mean": {metric: _mean_of_cases(detected, metric) for metric in quality},
        "detected_count": states["both"],
        "truth_count": states["both"] + states["missed"],
        "labels": {
            label: _label_summary([score for score in scores if score.label == label])
            for label in dict.fromkeys(score.label for score in scores)
        },
    }


def summarise_groups(scores: Sequence[Score], group_of: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Summarise the scores of each group of cases apart, as `summarise` does; {} where no case has a group.

    group_of: the group of each case by name, "" where it has none. Groups are sorted by name, so that those without
    one, which are summarised together under "", come first; a group none of whose cases has scores is left out.
    """
    if not any(group_of.values()):
        return {}
    by_group: dict[str, list[Score]] = {}
    for score in scores:
        by_group.setdefault(group_of[score.case], []).append(score)
    return {group: summarise(by_group[group]) for group in sorted(by_group)}


def _states(scores: Sequence[Score]) -> set[tuple[str, str, str]]:
    """Return case, label and state of each class of each case, once."""
    return {(score.case, score.label, score.state) for score in scores}


def _mean_of_cases(scores: Sequence[Score], metric: str) -> float | None:
    """Return the mean over cases of the mean over the classes that count."""
    by_case: dict[str, list[float]] = {}
    for score in scores:
        if score.metric == metric and not isnan(score.value):
            by_case.setdefault(score.case, []).append(score.value)
    return _mean(float(np.mean(values)) for values in by_case.values())


def _label_summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Summarise the scores of one class."""
    states = Counter(state for _, _, state in _states(scores))
    summary: dict[str, Any] = {"states": {state: states[state] for state in STATES}}
    for metric in dict.fromkeys(score.metric for score in scores):
        counted = [score for score in scores if score.metric == metric and not isnan(score.value)]
        values = [score.value for score in counted]
        detected = [score.value for score in counted if score.state == "both"]
        summary[metric] = {
            "mean": _mean(values),
            "std": float(np.std(values)) if values else None,
            "median": float(np.median(values)) if values else None,
            "count": len(values),
            "detected_mean": _mean(detected),
            "detected_count": len(detected),
        }
    return summary


def _mean(values: Iterable[float]) -> float | None:
    """Return the mean, None of nothing."""
    listed = list(values)
    return float(np.mean(listed)) if listed else None
