"""The list of all keys, and what the help text says about them."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from pipeline.config.keys import all_keys, describe, help_text, nearest
from pipeline.config.section import Positive, Probability

PROMISED = {
    "data": ("source", "store", "exclude", "folds"),
    "labels": ("swap", "ignore", "regions"),
    "prepare": ("spacing_mm", "workers", "shard"),
    "intensity": ("window_hu", "gamma"),
    "sample": ("patch_vox", "batch", "positive"),
    "augment": ("preset",),
    "head": ("kind", "threshold"),
    "loss": ("name", "alpha", "smooth"),
    "net": ("name", "options", "checkpoint"),
    "train": (
        "steps",
        "minutes",
        "fold",
        "lr",
        "optimiser",
        "schedule",
        "warmup_steps",
        "clip",
        "amp",
        "patience",
        "resume",
        "restart",
        "save_every_steps",
        "save_every_minutes",
        "validate_every_steps",
    ),
    "infer": ("input", "model", "overlap", "engine", "shard"),
    "evaluate": ("truth", "prediction", "tolerance_mm"),
}


def test_every_promised_key_is_there() -> None:
    promised = {f"{section}.{word}" for section, words in PROMISED.items() for word in words} | {"work", "seed"}
    assert promised - set(all_keys()) == set()


def test_the_help_text_has_every_key_with_its_default() -> None:
    lines = help_text().splitlines()
    shown = [line.strip().partition(":")[0] for line in lines]
    for key in all_keys():
        assert key.rpartition(".")[2] in shown
    assert "  steps: optimiser steps; a whole number of at least 1 [1000]" in lines
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (Positive, "a number above 0"),
        (Probability, "a number from 0 to 1"),
        (Annotated[float, Field(ge=0, lt=1)], "a number of at least 0 and below 1"),
        (Positive | None, "a number above 0 or null"),
        (Literal["a"], "a"),
        (Literal["a", "b", "c"], "a, b or c"),
        (int | Literal["auto"], "a whole number or auto"),
        (tuple[str, ...], "a list, each text"),
        (tuple[Positive, Positive], "a list of 2, each a number above 0"),
        (dict[str, Any], "a group of names, each with any value"),
    ],
)
def test_types_are_said_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


def test_the_same_word_in_other_sections_comes_before_a_similar_one() -> None:
    assert nearest("net.workers") == ["prepare.workers", "sample.workers", "evaluate.workers"]
    assert nearest("train.warmup") == ["train.warmup_steps"]
    assert nearest("quite.different") == []
