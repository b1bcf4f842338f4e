"""From the words on a command line to a checked config: one optional YAML file, then key=value overrides."""

import difflib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config import text
from pipeline.config.check import check
from pipeline.config.config import Config
from pipeline.config.keys import all_keys, expected, nearest, section_of
from pipeline.errors import UserError

LONGEST_FOUND = 80  # characters of a wrong value that a message repeats


def load(argv: list[str]) -> Config:
    """Return the config that `argv` asks for: an optional YAML file first, then overrides such as train.steps=2000.

    Values of overrides are YAML, so train.lr=5e-3, data.exclude=[a, b] and infer.input=null work. Relative paths are
    relative to the current folder. Raises UserError that names file and line, or key, found and expected value; where
    several keys are wrong it has a line for each.
    """
    words = list(argv)
    file = Path(words.pop(0)) if words and _is_file_name(words[0]) else None
    settings = _read_file(file) if file else {}
    overridden = [_override(settings, word) for word in words]
    try:
        config = Config.model_validate_json(json.dumps(_without_empty_sections(settings)), strict=True)
    except ValidationError as error:
        raise UserError("\n".join(_sentences(error, settings, file, overridden))) from error
    check(config)
    return config


def dump(config: Config) -> str:
    """Return the whole config as YAML, defaults included; loading it gives an equal config."""
    return text.dump(config.model_dump(mode="json"))


def _is_file_name(word: str) -> bool:
    return "=" not in word or os.path.isfile(word)  # unlike Path.is_file it bears any text


def _read_file(file: Path) -> dict[str, Any]:
    """Return the settings in a YAML file; none where it is empty."""
    try:
        settings = text.parse(file.read_bytes().decode("utf-8-sig"), str(file))
    except FileNotFoundError as error:
        others = [str(path) for path in file.parent.glob("*.y*ml")]
        close = difflib.get_close_matches(str(file), others, n=1)
        hint = f"did you mean {close[0]}?" if close else "give the path of a YAML file, or key=value."
        raise UserError(f"{file}: there is no such config file; {hint}") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); expected a YAML file.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8 text.") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise UserError(f"{file}: found {_shown(settings)}, expected keys such as `work: runs/mine`.")
    return settings


def _override(settings: dict[str, Any], word: str) -> str:
    """Set one key=value in `settings` and return the key."""
    key, equals, value = word.partition("=")
    if not equals:
        raise UserError(f"{word!r}: expected key=value, such as train.steps=2000 (a config file comes first).")
    *groups, last = key.split(".")
    if not all([*groups, last]):
        raise UserError(f"{word!r}: the key {key!r} has an empty part; expected key=value, such as train.steps=2000.")
    for position, name in enumerate(groups):
        if settings.get(name) is None:
            settings[name] = {}
        settings = settings[name]
        if not isinstance(settings, dict):
            path = ".".join(groups[: position + 1])
            raise UserError(f"{key}: {path} holds {_shown(settings)} and has no keys of its own.")
    settings[last] = text.parse(value, f"{word!r}")
    return key


def _without_empty_sections(settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out sections with nothing under them, as when all their lines are commented out."""
    sections = {key for key, field in all_keys().items() if section_of(field) is not None}
    return {key: value for key, value in settings.items() if value is not None or key not in sections}


def _sentences(error: ValidationError, settings: dict[str, Any], file: Path | None, overridden: list[str]) -> list[str]:
    """Return one sentence for each key that is wrong."""
    sentences: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        location = tuple(problem["loc"])
        if problem["type"] == "extra_forbidden":
            key = ".".join(str(part) for part in location)
            close = [known for known in nearest(key) if not key.startswith(f"{known}.")]
            sentence = f"{key}: unknown key; " + (f"did you mean {' or '.join(close)}?" if close else "see --help.")
        else:
            key = _known_key(location)
            wanted = f"expected {expected(key)}"
            if problem["type"] == "value_error":
                wanted = str(problem["ctx"]["error"])
            sentence = f"{key}: found {_shown(_value_at(settings, key))}, {wanted}."
        given_here = any(key == word or key.startswith(f"{word}.") or word.startswith(f"{key}.") for word in overridden)
        origin = "" if given_here or file is None else f"{file}: "
        sentences.setdefault(key, origin + sentence)
    return list(sentences.values())


def _known_key(location: tuple[int | str, ...]) -> str:
    """Return the dotted key that an error lies in: without positions in lists and branches of unions."""
    words = [str(part) for part in location]
    paths = [".".join(words[:length]) for length in range(len(words), 0, -1)]
    known = next(path for path in paths if path in all_keys())
    return paths[-2] if known == "labels" and len(paths) > 1 else known


def _value_at(settings: dict[str, Any], key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _shown(value: Any) -> str:
    """Return a value as a message repeats it."""
    shown = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= LONGEST_FOUND else f"{shown[:LONGEST_FOUND]}..."
