"""Memory that is not the kernel's to take back stays flat, however many patches and cases there are.

What is mapped of a store belongs to the kernel's cache: it counts as resident, and is dropped where memory runs short.
"""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.store.reader import PreparedCase

MIB = 2**20
PATCH = (24, 24, 24)
OPENED_CASE = 64 * 1024  # bytes: grids, counts and the histogram

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def anonymous_bytes() -> int:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def draw(cases: list[PreparedCase], patches: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(patches):
        case = cases[random.integers(len(cases))]
        case.read(tuple(random.integers(-8, 40, 3).tolist()), PATCH)
        case.foreground_voxel(1, int(random.integers(case.stored_foreground[1])))


def growth(make_case, cases: int, patches: int, compress: str) -> int:
    encoded = np.ones((40, 48, 100), np.uint8)
    opened = [
        PreparedCase.open(make_case(f"{compress} {number} of {cases}", encoded=encoded, compress=compress)[0])
        for number in range(cases)
    ]
    draw(opened, 100)
    before = anonymous_bytes()
    draw(opened, patches)
    return anonymous_bytes() - before


@pytest.mark.parametrize("compress", ["none", "lz4"])
def test_two_thousand_patches_take_no_memory(make_case, compress: str) -> None:
    assert growth(make_case, 4, 2_000, compress) < MIB


@pytest.mark.slow
@pytest.mark.parametrize("compress", ["none", "lz4"])
def test_twenty_thousand_patches_of_three_hundred_cases_take_no_memory(make_case, compress: str) -> None:
    assert growth(make_case, 300, 20_000, compress) < 2 * MIB


def test_an_opened_case_takes_what_its_facts_take(make_case) -> None:
    folder, _, _ = make_case(encoded=np.ones((64, 64, 64), np.uint8))
    PreparedCase.open(folder).read((0, 0, 0), PATCH)
    before = anonymous_bytes()
    opened = [PreparedCase.open(folder) for _ in range(200)]
    draw(opened, 400)
    assert anonymous_bytes() - before < 200 * OPENED_CASE
