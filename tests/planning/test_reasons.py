"""What the comments say: figures that were measured, and which limit was the narrow one."""

from dataclasses import replace

import pytest

from pipeline.config.net import NetSection
from pipeline.planning.choice import AS_GIVEN, Choice
from pipeline.planning.cost import GIB, Cost, Trial
from pipeline.planning.network import CPU
from pipeline.planning.reasons import network_choices, patch_reason
from pipeline.planning.size import Size, Target

NET = NetSection(options={"channels": [16, 32, 64], "strides": [1, 2, [2, 2, 1]]})
HERE = Target(CPU, 8 * GIB, 1.5, program_counts=True, tried_voxels=1e5)
SIZE = Size(
    spacing=Choice((1.0, 1.0, 1.0), "the median"),
    trial=Trial(NET, (64, 64, 32), 2),
    batch_reason="two",
    limiting="time",
    body_vox=(128, 128, 64),
    predicted=Cost(GIB, GIB // 2, 1.4),
    measured=Cost(2 * GIB, GIB // 2, 1.5),
)


def test_a_patch_tells_its_limit_its_share_and_what_was_measured() -> None:
    reason = patch_reason(SIZE, HERE, "a CPU with 2 cores", given=False)
    assert "128 x 128 x 64 voxels" in reason
    assert "as large as 1.5 s a step allow" in reason
    assert "it covers 12% of that body" in reason
    assert "predicted to take 1.00 GiB beside the program's 0.50 and 1.4 s" in reason
    assert "measured on a CPU with 2 cores: 2.00 GiB beside the program's 0.50 and 1.5 s" in reason
    assert "MORE" not in reason


@pytest.mark.parametrize(
    ("limiting", "words"), [("memory", "as large as 8 GiB allow"), ("the body", "it holds the whole median body")]
)
def test_another_limit_has_other_words(limiting: str, words: str) -> None:
    assert words in patch_reason(replace(SIZE, limiting=limiting), HERE, "a CPU", given=False)  # type: ignore[arg-type]


def test_a_given_patch_that_takes_more_than_the_limit_says_so() -> None:
    reason = patch_reason(SIZE, replace(HERE, memory_bytes=2 * GIB), "a CPU", given=True)
    assert reason.startswith(AS_GIVEN)
    assert "MORE THAN THE LIMIT of 2 GiB" in reason


def test_a_plan_for_another_device_says_where_it_was_measured() -> None:
    elsewhere = replace(HERE, program_counts=False, measured_seconds=10.0)
    reason = patch_reason(replace(SIZE, measured=None), elsewhere, "a CPU", given=False)
    assert "a CPU stands in for that device, in float32" in reason
    assert "not tried here" in reason


def test_strides_tell_what_is_left_at_the_bottom() -> None:
    choices = network_choices(SIZE, {}, "few")
    assert "16 x 16 x 16 voxels in the deepest stage, of 4 x 4 x 2 voxels each" in choices["net.options.strides"].reason
    assert "coarse axes wait" in choices["net.options.strides"].reason
    assert choices["net.options.channels"] == Choice([16, 32, 64], "few")
    assert "net.checkpoint" not in choices


@pytest.mark.parametrize("mode", ["blocks", "deep"])
def test_what_is_recomputed_is_written_with_its_reason(mode: str) -> None:
    trial = replace(SIZE.trial, net=NET.model_copy(update={"checkpoint": mode}))
    choice = network_choices(replace(SIZE, trial=trial), {}, "few")["net.checkpoint"]
    assert choice.value == mode
    assert choice.reason.startswith("memory")


def test_given_options_say_so() -> None:
    choices = network_choices(SIZE, {"channels": [16, 32, 64]}, "few")
    assert choices["net.options.channels"].reason == AS_GIVEN
