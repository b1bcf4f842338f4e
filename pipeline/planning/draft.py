"""The config that is proposed: what was chosen and what was given, as YAML with a reason above each key.

A seal on its last line tells whether it was edited.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.config.text import dump
from pipeline.files import hash_json
from pipeline.planning.choice import AS_GIVEN, Choice

WIDTH = 110
SEAL = re.compile(r"\n# Written by plan \(seal ([0-9a-f]{16})\)[^\n]*\n\Z")


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


def render(settings: Mapping[str, Any], reasons: Mapping[str, str], heading: Iterable[str]) -> str:
    """Return settings as YAML that reads back as the same values.

    settings: nested, JSON values. reasons: by dotted key; a line break in one is kept. heading: paragraphs on top, ""
    for an empty line.
    """
    lines = [line for paragraph in heading for line in ([*comment(paragraph, "")] or ["#"])]
    return "\n".join([*lines, "", *keys(settings, reasons, ""), ""])


def keys(settings: Mapping[str, Any], reasons: Mapping[str, str], path: str) -> Iterator[str]:
    """Yield the lines of a group of settings, each under its reason."""
    indent = "  " * (path.count("."))
    for key, value in settings.items():
        place = path + key
        yield from comment(reasons.get(place, ""), indent)
        if isinstance(value, Mapping) and any(reason.startswith(f"{place}.") for reason in reasons):
            yield indent + dump({key: 0}).removesuffix(" 0\n")
            yield from keys(value, reasons, f"{place}.")
        else:
            yield from textwrap.indent(dump({key: value}).rstrip("\n"), indent).split("\n")


def comment(reason: str, indent: str) -> Iterator[str]:
    """Yield a reason as comment lines; none for an empty one."""
    for paragraph in reason.splitlines():
        wrapped = textwrap.wrap(paragraph, WIDTH - len(indent) - 2, subsequent_indent=hanging(paragraph)) or [""]
        yield from (f"{indent}# {printable(line)}".rstrip() for line in wrapped)


def printable(line: str) -> str:
    """Return a line without the characters that YAML refuses even in a comment, such as a path may have."""
    return "".join(character if character.isprintable() else "?" for character in line)


def hanging(paragraph: str) -> str:
    """Return the indent of a paragraph's later lines: two deeper than its first one, if that has any."""
    own = len(paragraph) - len(paragraph.lstrip())
    return " " * (own + 2) if own else ""


def sealed(text: str) -> str:
    """Return the text with a last line that holds its hash."""
    return f"{text}\n# Written by plan (seal {hash_json(text)}). Once edited, plan does not replace this file.\n"


def is_untouched(text: str) -> bool:
    """True for a text that is exactly what `sealed` returned."""
    seal = SEAL.search(text)
    return seal is not None and hash_json(text[: seal.start()]) == seal[1]
