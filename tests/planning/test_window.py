"""The window from histograms whose percentiles are known."""

from collections.abc import Callable

import numpy as np

from pipeline.planning.evidence import Evidence
from pipeline.planning.window import percentiles, standard_of, window_of
from pipeline.volume.intensity import Intensity, histogram

MakeEvidence = Callable[..., Evidence]


def test_percentiles_are_the_edges_of_the_bins_that_they_fall_in() -> None:
    assert percentiles(histogram(np.arange(0, 1000))) == (0, 1000)
    assert percentiles(histogram(np.arange(0, 1000)), (10, 90)) == (90, 900)


def test_percentiles_are_within_a_bin_of_numpys() -> None:
    hu = np.random.default_rng(0).normal(60, 300, 20_000)
    low, high = percentiles(histogram(hu))
    assert 0 <= np.percentile(hu, 0.5) - low <= 10
    assert 0 <= high - np.percentile(hu, 99.5) <= 10


def test_few_extreme_voxels_do_not_widen_the_window() -> None:
    hu = np.concatenate([np.full(10_000, 50), np.full(10, 3000)])
    assert percentiles(histogram(hu)) == (50, 60)


def test_the_window_of_an_organ_is_widened_to_soft_tissue(make_evidence: MakeEvidence) -> None:
    chosen = window_of(make_evidence({"hu": (40, 60, 120)}))
    assert chosen.value == (-160, 240)
    assert "40..130 HU; widened" in chosen.reason


def test_the_window_of_lung_and_bone_is_that_of_their_voxels(make_evidence: MakeEvidence) -> None:
    chosen = window_of(make_evidence({"hu": (-900, 1204)}))
    assert chosen.value == (-900, 1210)
    assert "widened" not in chosen.reason


def test_the_constants_are_left_to_training_and_told(make_evidence: MakeEvidence) -> None:
    mean, std = standard_of(make_evidence(), (-160, 240), 1.0)  # body: -100, 40, 60 HU, counted at their bins' centres
    seen = Intensity((-160, 240)).scale(np.array([-95.0, 45.0, 65.0]))
    assert mean.value is None and std.value is None
    assert f"mean {seen.mean():.4g} and deviation {seen.std():.4g}" in mean.reason
