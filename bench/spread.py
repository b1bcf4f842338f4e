"""How the benchmarks print scores of several seeds."""

from collections.abc import Sequence
from statistics import fmean, stdev


def with_spread(values: Sequence[float]) -> str:
    """Return the mean and, of several values, the standard deviation."""
    return f"{fmean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"
