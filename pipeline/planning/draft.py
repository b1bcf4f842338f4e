"""What was chosen and what was given, put together as the settings of a config and a reason beside each."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.planning.choice import AS_GIVEN, Choice


def assemble(
    choices: Mapping[str, Choice], given: Mapping[str, Any], order: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return (settings, reasons): nested settings with sections in this order, and reasons by dotted key.

    choices: by dotted key; one without a reason needs none. given: the user's own settings, nested, JSON values; they
        stay, and say so.
    """
    settings: dict[str, Any] = {}
    for key, choice in choices.items():
        *groups, last = key.split(".")
        place = settings
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = plain(choice.value)
    settings = merged(settings, given)
    reasons = {
        key: AS_GIVEN if holds(given, key) and not choice.reason.startswith(AS_GIVEN) else choice.reason
        for key, choice in choices.items()
        if choice.reason
    }
    return {name: settings[name] for name in order if name in settings}, reasons


def holds(settings: Mapping[str, Any], key: str) -> bool:
    """Tell whether nested settings have a dotted key."""
    value: Any = settings
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return False
        value = value[name]
    return True


def merged(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of `given` in their place, group by group."""
    result = dict(settings)
    for key, value in given.items():
        below = result.get(key)
        inside = isinstance(value, Mapping) and isinstance(below, Mapping)
        result[key] = merged(below, value) if inside else value  # type: ignore[arg-type]
    return result


def plain(value: Any) -> Any:
    """Return a value with lists in place of tuples, which YAML has no word for."""
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return value
