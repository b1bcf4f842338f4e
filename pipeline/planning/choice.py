"""A planned setting, and why it has its value."""

from typing import Any, NamedTuple

AS_GIVEN = "as given"


class Choice(NamedTuple):
    """The value of a config key, and the reason that is written beside it."""

    value: Any
    reason: str


def many(count: int, noun: str) -> str:
    """Return a number of things in words, such as "1 case" or "12 cases"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
