"""One record a training step: what a person or a rule looks at to tell whether a run is well."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Vitals:
    """The signs of one step.

    step: counted from 1. loss: mean over the batch, parts by name beside it, losses of the samples. All may be NaN or
    infinite in the step that ended a run. grad_norm: before clipping.
    logits_min, logits_max: range of the prediction's raw logits. drawn: positive slots by class name.
    predicted: share of voxels by class name, background included; dice: of the patches together, by target of the head
    that is in one of them, or was predicted; both empty on steps that did not measure them, and read from a journal.
    strange_labels: values (at most 5) of the batch's labels that are neither a class index nor 255.
    image_std: standard deviation of the batch's standardised intensities; about 1 is usual; None where not measured.
    update_share: length of the step's change of the weights, divided by that of the weights; None where not measured.
    since_start: steps since the process began or took the run up again, this one included; None where not known.
    ended: whether this step ended the run by an error.
    wait_s: time that the step waited for its batch. step_s: the whole step, waiting included; both are means over the
    steps since the last record. memory_bytes: peak of the process, on CUDA of the device.
    cases: names of the cases in the batch, one a slot.
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
    losses: tuple[float, ...] = ()
    dice: dict[str, float] = field(default_factory=dict)
    strange_labels: tuple[float, ...] = ()
    image_std: float | None = None
    update_share: float | None = None
    since_start: int | None = None
    ended: bool = False
