"""What is wrong with a run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A disease of a run: its name in a few words, evidence with numbers, and the cure, a key where there is one.

    fatal: whether the run is not worth going on with; otherwise this is advice.
    """

    name: str
    evidence: str
    cure: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}; {self.cure}."
