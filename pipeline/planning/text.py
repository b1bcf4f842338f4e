"""A config as YAML with a comment above each key that has a reason; and a seal that tells whether it was edited."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.config import text as yaml_text
from pipeline.files import hash_json

WIDTH = 110
SEAL = re.compile(r"\n# Written by plan \(seal ([0-9a-f]{16})\)[^\n]*\n\Z")


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
            yield indent + yaml_text.dump({key: 0}).removesuffix(" 0\n")
            yield from keys(value, reasons, f"{place}.")
        else:
            yield from textwrap.indent(yaml_text.dump({key: value}).rstrip("\n"), indent).split("\n")


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
