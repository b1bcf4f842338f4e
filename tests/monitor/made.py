"""Records of runs that never were, healthy ones and what changes them."""

from dataclasses import replace

from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms.diagnose import diagnose
from pipeline.monitor.vitals import Vitals

FACTS = RunFacts(
    network="UNet3d", head="softmax", channels=3, classes=("left", "right"), targets=("left", "right"),
    partners={"left": "right", "right": "left"}, entropy="ce", lr=1e-3, warmup_steps=5, batch=2, batch_norm=False,
    not_hu={},
)  # fmt: skip
WELL = Vitals(
    step=1, loss=0.8, lr=1e-3, grad_norm=0.5, logits_min=-2.0, logits_max=3.0, drawn={"left": 1, "right": 1},
    predicted={}, wait_s=0.01, step_s=0.1, memory_bytes=0, cases=("a", "b"), parts={"dice": 0.9, "ce": 0.7},
    losses=(0.7, 0.9), image_std=1.0, update_share=2e-3,
)  # fmt: skip
CHECKUP = Checkup(
    step=300, dice={"left": 0.7, "right": 0.6}, near_dice={"left": 0.75, "right": 0.65},
    partner_dice={"left": 0.0, "right": 0.0}, truth_share={"background": 0.98, "left": 0.01, "right": 0.01},
    predicted_share={"background": 0.97, "left": 0.02, "right": 0.01}, cases={"z": 0.65},
    training_dice={"left": 0.8, "right": 0.7}, training={}, present_dice={"left": 0.7, "right": 0.6},
)  # fmt: skip


def records(count: int = 60, **changes) -> list[Vitals]:
    return [replace(WELL, step=step, **changes) for step in range(1, count + 1)]


def names(history, facts=FACTS, checkups=()) -> list[str]:
    return [finding.name for finding in diagnose(history, facts, checkups)]


def two(**changes) -> list[Checkup]:
    """Return two checkups; their Dice is that of cases which have the target, unless `present_dice` says otherwise."""
    if "dice" in changes:
        changes = {"present_dice": changes["dice"], **changes}
    return [replace(CHECKUP, step=250, **changes), replace(CHECKUP, **changes)]


def with_last(records_before: list[Vitals], **changes) -> list[Vitals]:
    """Return records whose last one is changed."""
    return [*records_before[:-1], replace(records_before[-1], **changes)]
