"""Looks at a run as it goes, with the rules of `symptoms`, and remembers what was found and when."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from heapq import merge
from operator import attrgetter
from typing import NamedTuple

from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms.diagnose import CHECKUP_RULES, STEP_RULES, Rule, found_by, unexplained
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.symptoms.window import LATEST
from pipeline.monitor.vitals import Vitals

FIRST, RECENT = 100, 200  # records that are looked at: of the beginning, and of what follows
LOOK_EVERY_STEPS = 10
LOOK_EVERY_SHARE = 0.01  # of the steps so far, once that is more: so that a long run is walked through quickly, too


class Noticed(NamedTuple):
    """A finding, and the step at which it was first made."""

    step: int
    finding: Finding


class Watchdog:
    """Holds a run's recent records and what is wrong with it.

    It looks at step 1, then once in ten steps, or a hundredth of the run so far where that is more, and at each
    validation, where alone it goes through the rules of validations. Replaying the records of a run through it finds
    what was found while the run went on.

    noticed: each disease once, in the order found. standing: what the last look found. checkups: all of them, the
    training cases of the last ones only.
    """

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self.noticed: list[Noticed] = []
        self.standing: list[Finding] = []
        self.first: list[Vitals] = []
        self.recent: deque[Vitals] = deque(maxlen=RECENT)
        self.checkups: list[Checkup] = []
        self.of_checkups: list[Finding] = []
        self.looked_at_step = 0

    @property
    def findings(self) -> list[Finding]:
        """Each disease once, in the order found, with the evidence that there was then."""
        return [noticed.finding for noticed in self.noticed]

    def see(self, record: Vitals | Checkup, *, last: bool = False) -> list[Finding]:
        """Take a record, look where it is time, and return what was not found before.

        last: whether the run ends with this record, which is always looked at.
        """
        if isinstance(record, Checkup):
            self._add_checkup(record)
            return self.look(record.step)
        (self.first if len(self.first) < FIRST else self.recent).append(record)
        return self.look(record.step) if last or self._is_time(record.step) else []

    def replay(self, vitals: Sequence[Vitals], checkups: Iterable[Checkup]) -> None:
        """See what a run wrote down, in the order in which it happened: then this is the watchdog that the run had."""
        records: Iterable[Vitals | Checkup] = merge(vitals, checkups, key=attrgetter("step"))
        for record in records:
            self.see(record)

    def look_at_end(self) -> None:
        """Look at how a run stands after its last step, where that was not looked at."""
        seen = self.recent or self.first
        if seen and self.looked_at_step < seen[-1].step:
            self.look(seen[-1].step)

    def look(self, step: int) -> list[Finding]:
        """Find what is wrong now, and return what was not found before."""
        self.looked_at_step = step
        self.standing = unexplained([*self._found_by(STEP_RULES), *self.of_checkups])
        known = {finding.name for finding in self.findings}
        new = [finding for finding in self.standing if finding.name not in known]
        self.noticed += [Noticed(step, finding) for finding in new]
        return new

    def _add_checkup(self, checkup: Checkup) -> None:
        """Take a checkup, and find what is wrong with the scores."""
        self.checkups.append(checkup)
        if len(self.checkups) > LATEST:
            self.checkups[-LATEST - 1] = replace(self.checkups[-LATEST - 1], training={})
        self.of_checkups = self._found_by(CHECKUP_RULES)

    def _found_by(self, rules: Iterable[Rule]) -> list[Finding]:
        return found_by(rules, [*self.first, *self.recent], self.facts, self.checkups)

    def _is_time(self, step: int) -> bool:
        """Say whether a step begins another ten, and a hundredth of the run has passed, since the last look."""
        before = self.looked_at_step
        another = step // LOOK_EVERY_STEPS > before // LOOK_EVERY_STEPS
        return before == 0 or (another and step - before >= LOOK_EVERY_SHARE * step)
