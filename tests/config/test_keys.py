"""The list of all keys, and what the help text says about them."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from pipeline.config.keys import all_keys, describe, help_text, nearest
from pipeline.config.section import Positive, Probability

PROMISED = """
work seed data.source data.store data.exclude data.folds labels labels.swap labels.ignore labels.regions
prepare.spacing_mm prepare.workers prepare.shard intensity.window_hu intensity.gamma sample.patch_vox sample.batch
sample.positive augment.preset head.kind head.threshold loss.name loss.alpha loss.smooth net.name net.options
net.checkpoint train.steps train.minutes train.fold train.lr train.optimiser train.schedule train.warmup_steps
train.clip train.amp train.patience train.resume train.restart train.save_every_steps train.save_every_minutes
train.validate_every_steps infer.input infer.model infer.overlap infer.engine infer.shard evaluate.truth
evaluate.prediction evaluate.tolerance_mm
""".split()


def test_every_promised_key_is_there() -> None:
    assert sorted(set(PROMISED) - set(all_keys())) == []


def test_the_help_text_has_every_key_with_its_default() -> None:
    lines = help_text().splitlines()
    for key in all_keys():
        assert any(line.lstrip().startswith(f"{key.rpartition('.')[2]}:") or line.startswith(f"{key}:") for line in lines)
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
