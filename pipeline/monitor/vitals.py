"""One record a training step: what a person or a rule looks at to tell whether a run is well."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Vitals:
    """The signs of one step.

    step: counted from 1. loss: mean over the batch, parts by name beside it. grad_norm: before clipping.
    logits_min, logits_max: range of the prediction's raw logits. drawn: positive slots by class name.
    predicted: share of voxels by class name, background included; empty on steps that did not measure it.
    wait_s: time that the step waited for its batch. step_s: the whole step, waiting included.
    memory_bytes: peak of the process, on CUDA of the device. cases: names of the cases in the batch, one a slot.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    logits_min: float
    logits_max: float
    drawn: dict[str, int]
    predicted: dict[str, float]
    wait_s: float
    step_s: float
    memory_bytes: int
    cases: tuple[str, ...]
    parts: dict[str, float] = field(default_factory=dict)
