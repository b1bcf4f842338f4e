"""What is wrong with a run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A disease of a run: its name in a few words, evidence with numbers, and the cure, a key where there is one."""

    name: str
    evidence: str
    cure: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}; {self.cure}."
