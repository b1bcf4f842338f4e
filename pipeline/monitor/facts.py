"""What rules must know of a run beside its vitals: written once when it starts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RunFacts:
    """What does not change in a run.

    network: `net.name`. head: its kind; channels: of its output. classes: names, without background. targets: names of
    the head's targets, classes or regions. partners: left and right of targets that have another side, both ways.
    entropy: the part of the loss that is a cross-entropy, of all voxels ("ce" or "bce") or the hardest ("topk"), None
    where there is none.
    lr: the largest rate. warmup_steps: before it is reached. batch: samples that a norm sees together.
    batch_norm: whether the network has one. not_hu: training cases whose intensities do not look like HU, and why.
    cases: how many are learnt from. steps: length of the run, None where that is not known yet. warm: whether it began
    with trained weights. amp: type of mixed precision, such as "float16", None for float32. optimiser: its key.
    """

    network: str
    head: str
    channels: int
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    partners: dict[str, str]
    entropy: str | None
    lr: float
    warmup_steps: int
    batch: int
    batch_norm: bool
    not_hu: dict[str, str]
    cases: int = 0
    steps: int | None = None
    warm: bool = False
    amp: str | None = None
    optimiser: str = "adamw"
