"""Making patches takes no memory that stays, however many are made and however many cases there are."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.sampling.batch import make_batch
from pipeline.sampling.index import build_index
from pipeline.store.reader import PreparedCase
from pipeline.volume.intensity import Intensity

SAMPLE = SampleSection(patch_vox=(16, 16, 16), batch=4)
SMAPS = Path("/proc/self/smaps_rollup")
MIB = 2**20


def anonymous_bytes() -> int:
    (line,) = [line for line in SMAPS.read_text().splitlines() if line.startswith("Anonymous:")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells anonymous memory")
@pytest.mark.parametrize(
    ("cases", "draws"),
    [(12, 500), pytest.param(12, 20_000, marks=pytest.mark.slow), pytest.param(240, 20_000, marks=pytest.mark.slow)],
)
def test_anonymous_memory_is_flat_over_many_draws(store, sided, cases, draws):
    opened = []
    for number in range(cases):
        link = store / f"case{number}"
        link.symlink_to(store / "ab"[number % 2])
        opened.append(replace(PreparedCase.open(link), name=link.name))
    index = build_index(opened, Head("softmax", sided), ("x",))
    augment = AugmentSection(mirror=("x",))

    def make(first: int, last: int) -> int:
        for step in range(first, last):
            make_batch(index, SAMPLE, augment, Intensity((0, 1)), 3, step)
        return anonymous_bytes()

    settled = make(0, 250)  # 1,000 draws meet every case
    assert make(250, 250 + draws // SAMPLE.batch) - settled < 2 * MIB
