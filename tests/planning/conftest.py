"""Made-up evidence and devices that the tests of planning share."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.dataset.fingerprint import CaseFingerprint, Components
from pipeline.planning.evidence import Evidence, gather
from pipeline.volume.grid import Float3, Int3
from pipeline.volume.intensity import histogram

MakeCase = Callable[..., CaseFingerprint]
MakeEvidence = Callable[..., Evidence]


def made_case(
    name: str = "a",
    spacing_mm: Float3 = (1.0, 1.0, 1.0),
    shape_vox: Int3 = (200, 160, 120),
    largest_vox: int = 20_000,
    hu: tuple[int, ...] = (0, 50, 100),
) -> CaseFingerprint:
    return CaseFingerprint(
        name=name,
        shape_vox=shape_vox,
        spacing_mm=spacing_mm,
        orientation="RAS",
        counts={0: int(np.prod(shape_vox)) - largest_vox, 1: largest_vox},
        histogram=histogram(np.array([-1000, -100, 40, 60])),
        foreground_histogram=histogram(np.array(hu)) if largest_vox else histogram(np.array([])),
        components={1: Components(largest_vox, largest_vox, 1)} if largest_vox else {},
        body_shape_vox=shape_vox,
    )


@pytest.fixture
def make_case() -> MakeCase:
    """Return a function that makes the fingerprint of a case with one object of class 1 that fills its body."""
    return made_case


@pytest.fixture
def make_evidence() -> MakeEvidence:
    """Return a function that makes the evidence of some cases, each given by the keys of `make_case`."""
    return lambda *cases: gather([made_case(**keys) for keys in (cases or ({},))], ["liver"])
