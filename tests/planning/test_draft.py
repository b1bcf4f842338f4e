"""Choices and given settings put together."""

from pipeline.planning.choice import AS_GIVEN, Choice
from pipeline.planning.draft import assemble, merged


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
