"""One thing that is wrong with a data set, and many of them in a few lines."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pipeline.log import listed

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

NAMED_CASES = 3  # of those that share a problem; the log file has all
LINES_OF_A_KIND = 8  # of problems that are called the same, such as a line for each of 117 classes
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d.,]*")  # no part of a name, as in rib_left_7


@dataclass(frozen=True)
class Problem:
    """What is wrong, with what, and what to do.

    severity: "error": the case, or the data set, cannot be used, or what comes of it cannot be believed. "warning":
        probably a mistake. "note": harmless here, but worth knowing.
    case: name of the case; "" where it is the data set.
    what: in two or three words; the same for all problems of a kind.
    found: the evidence, with numbers. cure: what to do; the same for all problems of a kind.
    """

    severity: Severity
    case: str
    what: str
    found: str
    cure: str


error, warning, note = (partial(Problem, severity) for severity in SEVERITIES)


@dataclass(frozen=True)
class Line:
    """Problems that differ in the case and in numbers only, as one line of a table."""

    severity: Severity
    cases: tuple[str, ...]
    what: str
    found: str
    cure: str

    def cells(self) -> list[str]:
        """Return cases, what, found and cure, with no more than three cases named."""
        return [listed(self.cases, NAMED_CASES) or "data set", self.what, self.found, self.cure]


def fold(problems: Sequence[Problem]) -> list[Line]:
    """Return a line for all problems that differ in the case and in numbers only: errors first, then as they come.

    Of the lines that are called the same no more than 8 are kept, those of most cases; the last one counts the others.
    """
    kinds: dict[tuple[str, ...], list[Problem]] = {}
    for problem in sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity)):
        kinds.setdefault((problem.severity, problem.what, problem.cure, _pattern(problem)), []).append(problem)
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in map(_line_of, kinds.values()):
        groups.setdefault((line.severity, line.what), []).append(line)
    return [line for group in groups.values() for line in _shortened(group)]


def _pattern(problem: Problem) -> str:
    """Return the evidence without the name of the case and without numbers."""
    name = rf"(?<![A-Za-z0-9]){re.escape(problem.case)}(?![A-Za-z0-9])"
    return NUMBER.sub("…", re.sub(name, "…", problem.found) if problem.case else problem.found)


def _line_of(problems: Sequence[Problem]) -> Line:
    """Return the line for problems of one kind, with the evidence of the first."""
    first = problems[0]
    cases = tuple(dict.fromkeys(problem.case for problem in problems if problem.case))
    found = f"such as {first.case}: {first.found}" if len(cases) > 1 else first.found
    return Line(first.severity, cases, first.what, found, first.cure)


def _shortened(lines: list[Line]) -> list[Line]:
    """Return at most 8 lines of those that are called the same."""
    if len(lines) <= LINES_OF_A_KIND:
        return lines
    ordered = sorted(lines, key=lambda line: -len(line.cases))
    kept, others = ordered[: LINES_OF_A_KIND - 1], ordered[LINES_OF_A_KIND - 1 :]
    cases = tuple(dict.fromkeys(case for line in others for case in line.cases))
    found = f"{len(others)} more such lines, as the log file has them; {others[0].found}"
    return [*kept, Line(others[0].severity, cases, others[0].what, found, others[0].cure)]
