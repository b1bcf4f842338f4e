"""What the network sees in one step, and how it is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.errors import UserError, explain
from pipeline.sampling.augment import make_patch
from pipeline.sampling.draw import Draw, Key, draw
from pipeline.sampling.index import Index
from pipeline.volume.intensity import Intensity


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches of one step: image float32 (B, 1, x, y, z), class indices uint8 (B, x, y, z), and their draws."""

    image: torch.Tensor
    labels: torch.Tensor
    draws: tuple[Draw, ...]


def slots_of(batch: int, rank: int, ranks: int) -> range:
    """Return the slots of a step that one of several ranks makes: every n-th, so that each has its share of positives.

    Raises UserError where a batch does not divide evenly among the ranks.
    """
    if batch % ranks:
        raise UserError(
            f"sample.batch: {batch} patches cannot be shared evenly among {ranks} ranks; take a multiple of {ranks}."
        )
    return range(rank, batch, ranks)


def make_batch(
    index: Index, sample: SampleSection, augment: AugmentSection, intensity: Intensity, seed: int, step: int,
    slots: Sequence[int] | None = None, tell: Callable[[Draw | None], object] = lambda drawn: None,
) -> Batch:  # fmt: skip
    """Draw and make the patches of one step. They depend on the arguments alone.

    slots: which of the step's patches to make, in this order; by default all of them.
    tell: called with each draw before its patch is made, and with None afterwards.
    Raises UserError where a case cannot be read. Any other error says which patch of which case it came from.
    """
    slots = range(sample.batch) if slots is None else slots
    images = np.empty((len(slots), 1, *sample.patch_vox), np.float32)
    labels = np.empty((len(slots), *sample.patch_vox), np.uint8)
    draws: list[Draw] = []
    for row, slot in enumerate(slots):
        drawn = None
        try:
            drawn = draw(index, sample, seed, step, slot)
            tell(drawn)
            case = index.cases[drawn.case]
            images[row, 0], labels[row] = make_patch(case, drawn, sample.patch_vox, augment, intensity, index.labels)
            tell(None)
        except UserError:
            raise
        except Exception as error:
            raise named(error, (seed, step, slot), "a case not yet drawn" if drawn is None else drawn.case) from error
        draws.append(drawn)
    return Batch(torch.from_numpy(images), torch.from_numpy(labels), tuple(draws))


def named(error: Exception, key: Key, case: str) -> Exception:
    """Return an error that says which patch it came from: a UserError where the machine is to blame."""
    by_machine = explain(error)
    reason = by_machine or f"{type(error).__name__}: {error}"
    sentence = f"patch of {case}, (seed, step, slot) {key}: {reason}"
    return RuntimeError(sentence) if by_machine is None else UserError(f"{sentence}.")
