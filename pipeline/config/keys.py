"""Every key of the config: its type in words, the nearest one to a misspelt one, and the help text."""

import difflib
import json
import sys
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from pipeline.config.config import Config
from pipeline.config.labels import LabelsSection
from pipeline.config.section import Section

WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
    NoneType: "null",
    Any: "any value",
}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
HELP_WIDTH = 110
CLASS_VALUES = "the whole number, or the list of whole numbers, that stands for this class in label files"


@cache
def all_keys() -> Mapping[str, FieldInfo]:
    """Return the field of every key by its dotted path, sections themselves included."""
    return dict(_walk(Config, ""))


def _walk(section: type[Section], prefix: str) -> Iterable[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        yield prefix + name, field
        inner = section_of(field)
        if inner is not None:
            yield from _walk(inner, f"{prefix}{name}.")


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section class that a field holds, or None where it holds a value."""
    united = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else ()
    for kind in (field.annotation, *united):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def nearest(path: str) -> list[str]:
    """Return the known keys that an unknown dotted path was probably meant to be; none where nothing is close.

    The same last word in another section comes first, then a similar word in the same section, then a similar path.
    """
    section, _, word = path.rpartition(".")
    places = [(*key.rpartition(".")[::2], key) for key in all_keys()]
    same = [key for _, last, key in places if last == word]
    beside = {last: key for group, last, key in places if group == section}
    similar = [beside[last] for last in difflib.get_close_matches(word, beside, n=1)]
    return same or similar or difflib.get_close_matches(path, all_keys(), n=1, cutoff=0.7)


def expected(path: str) -> str:
    """Return in words what a known key, or a class name under `labels`, may hold."""
    field = all_keys().get(path)
    return describe(field.annotation, field.metadata) if field else CLASS_VALUES


def describe(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Return a type annotation and its bounds in words, such as "a number above 0"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0], _flat(arguments[1:]))
    if origin is Literal:
        return " or ".join([", ".join(arguments[:-1]), arguments[-1]] if len(arguments) > 1 else arguments)
    if origin in (Union, UnionType):
        return " or ".join(describe(part) for part in arguments)
    if origin is tuple:
        count = "" if Ellipsis in arguments else f" of {len(arguments)}"
        return f"a list{count}, each {describe(arguments[0])}"
    if origin is dict:
        return f"a group of names, each with {describe(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return f"a group of keys such as {', '.join(list(annotation.model_fields)[:2])}"
    return WORDS[annotation] + _bounds_in_words(metadata)


def _bounds_in_words(metadata: Iterable[Any]) -> str:
    bounds = {word: getattr(item, word) for item in metadata for word in BOUNDS if hasattr(item, word)}
    if {"ge", "le"} <= bounds.keys():
        return f" from {bounds['ge']} to {bounds['le']}"
    words = " and ".join(f"{BOUNDS[word]} {limit}" for word, limit in bounds.items())
    return f" of {words}" if "ge" in bounds else f" {words}".rstrip()


def _flat(metadata: Iterable[Any]) -> list[Any]:
    return [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]


def help_text() -> str:
    """Return all keys grouped by section: description, type, and default in brackets."""
    lines: list[str] = []
    for path, field in all_keys().items():
        name = path.rpartition(".")[2]
        inner = section_of(field)
        if inner is None:
            lines.append(_help_line(name, field, indent="  " if "." in path else ""))
        else:
            lines += ["", f"{path}: {(sys.modules[inner.__module__].__doc__ or '').strip()}"]
            if inner is LabelsSection:
                lines.append(f"  NAME: {CLASS_VALUES}")
    return "\n".join(lines)


def _help_line(name: str, field: FieldInfo, indent: str) -> str:
    about = "; ".join(part for part in (field.description, describe(field.annotation, field.metadata)) if part)
    default = json.dumps(field.default, default=str, ensure_ascii=False)
    line = f"{indent}{name}: {about} [{default}]"
    return textwrap.fill(line, HELP_WIDTH, subsequent_indent=f"{indent}    ", break_on_hyphens=False)
