"""Config text: YAML 1.2 core-schema scalars, so that 5e-3 is a number, and no, on and dates are strings."""

import math
import re
from typing import Any, ClassVar

import yaml

from pipeline.errors import UserError

TAG = "tag:yaml.org,2002:"
SCALARS = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    "float": (
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
}
EXACT_UP_TO = 2.0**53  # the whole numbers that a float holds exactly


class Loader(yaml.SafeLoader):
    """Reads mappings with text keys, lists, and the scalars above; refuses duplicate keys and every other tag."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    yaml_constructors: ClassVar[dict[str, Any]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:  # type: ignore[override]
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key that is not one word", key.start_mark)
            if key.value in mapping:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands there twice; give it once", key.start_mark
                )
            mapping[key.value] = self.construct_object(value, deep=True)
        return mapping

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
        return int(node.value, base)

    def construct_real(self, node: yaml.ScalarNode) -> float:
        number = float(re.sub(r"\.(?=[a-zA-Z])", "", node.value))  # .inf and .nan
        # 1e3 is how some write a count: as a whole number, keys of either kind take it.
        counts = "e" in node.value.lower() and number.is_integer() and abs(number) < EXACT_UP_TO
        return int(number) if counts else number


class Dumper(yaml.SafeDumper):
    """Writes what Loader reads back unchanged: it quotes by the same rules."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _kind, (_pattern, _first) in SCALARS.items():
    Loader.add_implicit_resolver(TAG + _kind, _pattern, _first)
    Dumper.add_implicit_resolver(TAG + _kind, _pattern, _first)
for _kind, _construct in {
    "null": Loader.construct_yaml_null,
    "bool": Loader.construct_yaml_bool,
    "int": Loader.construct_integer,
    "float": Loader.construct_real,
    "str": Loader.construct_yaml_str,
    "seq": Loader.construct_yaml_seq,
    "map": Loader.construct_yaml_map,
}.items():
    Loader.add_constructor(TAG + _kind, _construct)
Loader.add_constructor(None, Loader.construct_undefined)
Dumper.add_representer(list, lambda dumper, items: dumper.represent_sequence(f"{TAG}seq", items, flow_style=True))


def parse(text: str, source: str) -> Any:
    """Return the value of a YAML text; None where it is empty.

    Raises UserError that names `source`, the line, and what is wrong there.
    """
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line if mark else 0
        lines = text.splitlines()
        if line < len(lines) and "\t" in lines[line]:
            raise UserError(f"{source}: line {line + 1} holds a tab; use spaces.") from error
        advice = "" if "give it once" in str(error.problem) else "; expected YAML"
        raise UserError(f"{source}: line {line + 1}: {error.problem}{advice}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source}: {' '.join(str(error).split())}; expected YAML.") from error


def in_line(value: Any) -> str:
    """Return a value of a config on one line, as a user would write it: [1, 2], {liver: 1}, null."""
    width = math.inf
    written = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=width)
    return written.removesuffix("...\n").strip()


def dump(value: Any) -> str:
    """Return YAML that `parse` reads back as the same value; a list stands on one line."""
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=110)
