"""The proposed config: choices and given settings put together; YAML that reads back, whatever the comments hold."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.text import parse
from pipeline.planning.choice import AS_GIVEN, Choice
from pipeline.planning.draft import WIDTH, assemble, is_untouched, merged, render, sealed

words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-10, 10) | words,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
names = st.text("abcxyz: #-", min_size=1, max_size=6)
groups = st.dictionaries(names, values, min_size=1, max_size=3)


def test_choices_are_nested_in_the_order_of_the_sections() -> None:
    choices = {
        "net.options.channels": Choice((4, 8), "few"),
        "prepare.spacing_mm": Choice((1.0, 1.0, 2.0), "the median"),
        "work": Choice("runs/a", ""),
    }
    settings, reasons = assemble(choices, {}, ["work", "prepare", "net"])
    assert list(settings) == ["work", "prepare", "net"]
    assert settings["net"] == {"options": {"channels": [4, 8]}}
    assert settings["prepare"]["spacing_mm"] == [1.0, 1.0, 2.0]
    assert reasons == {"net.options.channels": "few", "prepare.spacing_mm": "the median"}


def test_what_is_given_stays_and_says_so() -> None:
    choices = {"sample.batch": Choice(2, "the smallest"), "sample.patch_vox": Choice((8, 8, 8), "large")}
    given = {"sample": {"batch": 4, "positive": 0.75}, "loss": {"class_weights": {"a.b": 0.3}}}
    settings, reasons = assemble(choices, given, ["sample", "loss"])
    assert settings == {
        "sample": {"batch": 4, "patch_vox": [8, 8, 8], "positive": 0.75},
        "loss": {"class_weights": {"a.b": 0.3}},
    }
    assert reasons == {"sample.batch": AS_GIVEN, "sample.patch_vox": "large"}


def test_what_is_measured_of_something_given_is_said_beside_it() -> None:
    choices = {"sample.patch_vox": Choice((8, 8, 8), f"{AS_GIVEN}; it takes 2 GiB")}
    _, reasons = assemble(choices, {"sample": {"patch_vox": [8, 8, 8]}}, ["sample"])
    assert reasons == {"sample.patch_vox": f"{AS_GIVEN}; it takes 2 GiB"}


def test_a_given_value_replaces_a_group_and_a_group_is_merged() -> None:
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3, "d": 4}}) == {"a": {"b": 1, "c": 3, "d": 4}}
    assert merged({"a": {"b": 1}}, {"a": None}) == {"a": None}


def test_each_reason_stands_above_its_key() -> None:
    settings = {"work": "runs/a", "net": {"name": "UNet3d", "options": {"channels": [4, 8]}}}
    reasons = {"net.options.channels": "few", "work": "one\n  two"}
    assert render(settings, reasons, ["A plan", ""]) == (
        "# A plan\n#\n\n# one\n#   two\nwork: runs/a\nnet:\n  name: UNet3d\n  options:\n    # few\n"
        "    channels: [4, 8]\n"
    )


def test_long_reasons_are_wrapped() -> None:
    rendered = render({"a": {"b": 1}}, {"a.b": "word " * 60}, [])
    assert len(rendered.splitlines()) > 4
    assert all(len(line) <= WIDTH for line in rendered.splitlines())
    assert parse(rendered, "plan") == {"a": {"b": 1}}


@given(st.dictionaries(names, values | groups, min_size=1, max_size=4), st.text())
def test_it_reads_back_as_the_same_settings(settings: dict[str, object], reason: str) -> None:
    reasons = dict.fromkeys(settings, reason)
    for key, value in settings.items():
        reasons |= {f"{key}.{inner}": reason for inner in (value if isinstance(value, dict) else ())}
    rendered = sealed(render(settings, reasons, [reason]))
    assert parse(rendered, "plan") == settings
    assert is_untouched(rendered)


def test_a_sealed_text_is_untouched_until_a_letter_changes() -> None:
    written = sealed(render({"a": 1}, {}, ["A plan"]))
    assert is_untouched(written)
    assert not is_untouched(written.replace("a: 1", "a: 2"))
    assert not is_untouched(written + "b: 2\n")
    assert not is_untouched("a: 1\n")
    assert not is_untouched("")
