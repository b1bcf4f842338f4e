"""Which mode of gradient checkpointing is just enough for the memory at hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError
from pipeline.planning.cost import GIB, Cost

SHARE_OF_FREE = 0.8  # the rest is for what else runs, and for validation
MODES: tuple[Literal["none", "blocks", "deep"], ...] = ("none", "blocks", "deep")  # the quickest first


@dataclass(frozen=True)
class Decision:
    """A mode of `net.checkpoint`, and in words why it is this one."""

    mode: str
    reason: str


def just_enough(measure: Callable[[str], Cost | None], free_bytes: int) -> Decision:
    """Return the quickest mode whose training step fits 80 % of the free memory.

    measure: returns what a step costs in a mode, None where memory did not suffice. A mode that the network cannot have
        raises UserError, and is passed over; in mode none it is the caller's. The program around the network counts,
        as the process that measures it is the same as the one that trains.

    Raises UserError with all figures where no mode fits.
    """
    limit_bytes = SHARE_OF_FREE * free_bytes
    tried: list[str] = []
    for mode in MODES:
        try:
            cost = measure(mode)
        except UserError as refusal:
            if mode == MODES[0]:
                raise
            tried.append(f"{mode} cannot be had ({refusal})")
            continue
        taken_bytes = None if cost is None else cost.memory_bytes + cost.program_bytes
        tried.append(f"{mode} takes {'more than there is' if taken_bytes is None else f'{taken_bytes / GIB:.2f} GiB'}")
        if taken_bytes is not None and taken_bytes <= limit_bytes:
            return Decision(mode, f"{'; '.join(tried)}; {limit_bytes / GIB:.2f} GiB may be taken")
    raise UserError(
        f"net.checkpoint: auto found no mode whose training step fits the {limit_bytes / GIB:.2f} GiB that may be "
        f"taken, 80 % of what is free ({'; '.join(tried)}); set a smaller sample.batch or sample.patch_vox, or a "
        "smaller network."
    )
