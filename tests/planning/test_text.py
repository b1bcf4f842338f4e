"""The commented YAML: it reads back as what went in, whatever the comments hold."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import text as yaml_text
from pipeline.planning import text

words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-10, 10) | words,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
names = st.text("abcxyz: #-", min_size=1, max_size=6)
groups = st.dictionaries(names, values, min_size=1, max_size=3)


def test_each_reason_stands_above_its_key() -> None:
    settings = {"work": "runs/a", "net": {"name": "UNet3d", "options": {"channels": [4, 8]}}}
    reasons = {"net.options.channels": "few", "work": "one\n  two"}
    assert text.render(settings, reasons, ["A plan", ""]) == (
        "# A plan\n#\n\n# one\n#   two\nwork: runs/a\nnet:\n  name: UNet3d\n  options:\n    # few\n"
        "    channels: [4, 8]\n"
    )


def test_long_reasons_are_wrapped() -> None:
    rendered = text.render({"a": {"b": 1}}, {"a.b": "word " * 60}, [])
    assert len(rendered.splitlines()) > 4
    assert all(len(line) <= text.WIDTH for line in rendered.splitlines())
    assert yaml_text.parse(rendered, "plan") == {"a": {"b": 1}}


@given(st.dictionaries(names, values | groups, min_size=1, max_size=4), st.text())
def test_it_reads_back_as_the_same_settings(settings: dict[str, object], reason: str) -> None:
    reasons = dict.fromkeys(settings, reason)
    for key, value in settings.items():
        reasons |= {f"{key}.{inner}": reason for inner in (value if isinstance(value, dict) else ())}
    rendered = text.sealed(text.render(settings, reasons, [reason]))
    assert yaml_text.parse(rendered, "plan") == settings
    assert text.is_untouched(rendered)


def test_a_sealed_text_is_untouched_until_a_letter_changes() -> None:
    sealed = text.sealed(text.render({"a": 1}, {}, ["A plan"]))
    assert text.is_untouched(sealed)
    assert not text.is_untouched(sealed.replace("a: 1", "a: 2"))
    assert not text.is_untouched(sealed + "b: 2\n")
    assert not text.is_untouched("a: 1\n")
    assert not text.is_untouched("")
