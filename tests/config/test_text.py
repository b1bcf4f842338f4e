"""YAML 1.2 scalars, and every way in which a config text can be no YAML."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.text import dump, in_line, parse
from pipeline.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-3", 0.005),
        ("1E4", 10000),
        ("1.5e3", 1500),
        ("1e300", 1e300),
        ("-3.0", -3.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("-3", -3),
        ("+7", 7),
        ("010", 10),
        ("0o10", 8),
        ("0xff", 255),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("2024-01-31", "2024-01-31"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("<<", "<<"),
        ("=", "="),
        ("'5'", "5"),
        ("[4, 4, 4]", [4, 4, 4]),
        ("{a: [b, 1]}", {"a": ["b", 1]}),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse(text, "test")
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_read() -> None:
    assert math.isnan(parse(".nan", "test"))


def test_keys_stay_the_text_that_was_written() -> None:
    assert parse("1: a\nyes: b\n0x10: c", "test") == {"1": "a", "yes": "b", "0x10": "c"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train:\n\tsteps: 5\n", ["line 2", "tab", "use spaces"]),
        ("train:\n  lr: 1\n  steps:\t5\n", ["line 3", "tab", "use spaces"]),
        ("seed: 1\nwork: a\nseed: 2\n", ["line 3", "'seed'", "twice"]),
        ("train: {lr: 1, lr: 2}\n", ["line 1", "'lr'", "twice; give it once."]),
        ("train: [1\n", ["expected"]),
        ("a: b: c\n", ["line 1"]),
        ("[1, 2]: a\n", ["line 1", "key"]),
        ("a: !!python/object:os.system x\n", ["line 1", "python"]),
        ("a: !!int x\n", ["x"]),
        ("a: 1\n---\nb: 2\n", ["document"]),
        ("a: \x07\n", ["character"]),
    ],
)
def test_what_is_no_config_text_is_refused_with_its_place(text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse(text, "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert [word for word in words if word not in str(caught.value)] == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(categories="LNPSZ")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(categories="LN")), inner),
)


@given(values)
def test_what_is_written_is_read_back_unchanged(value: object) -> None:
    assert parse(dump(value), "test") == value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "null"), (5.0, "5.0"), ("a b", "a b"), ("true", "'true'"), ("", "''"), ((1, (2, 3)), "[1, [2, 3]]"),
        ({"A": (1,), "swap": None}, "{A: [1], swap: null}"), (list(range(100)), str(list(range(100)))),
    ],
)  # fmt: skip
def test_a_value_in_a_message_is_written_as_in_a_config(value: object, written: str) -> None:
    assert in_line(value) == written


@given(st.from_regex(r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?|0[xob][0-9]+|yes|no|true|null|~", fullmatch=True))
def test_text_that_looks_like_another_type_is_read_back_as_text(text: str) -> None:
    assert parse(dump([text]), "test") == [text]
