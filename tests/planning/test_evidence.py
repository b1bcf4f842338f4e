"""What all cases together say, from figures that are easy to add up."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.dataset.fingerprint import CaseFingerprint
from pipeline.planning.evidence import Evidence, gather


def test_a_class_is_summed_up_over_the_cases_that_have_it(make_case: Callable[..., CaseFingerprint]) -> None:
    cases = [make_case("a", largest_vox=1000), make_case("b", largest_vox=3000), make_case("c", largest_vox=0)]
    liver, spleen = gather(cases, ["liver", "spleen"]).classes
    assert (liver.cases, liver.volume_ml, liver.objects) == (2, 2.0, 1)
    assert liver.share == pytest.approx(4000 / (3 * 200 * 160 * 120))
    assert liver.small_mm3 == pytest.approx(1200)  # a tenth of the way from 1000 to 3000
    assert (spleen.cases, spleen.small_mm3) == (0, 0.0)


def test_a_body_has_fewer_voxels_on_a_coarser_grid(make_evidence: Callable[..., Evidence]) -> None:
    evidence = make_evidence({}, {"spacing_mm": (2.0, 2.0, 2.0)}, {"spacing_mm": (2.0, 2.0, 2.0)})
    np.testing.assert_array_equal(evidence.bodies_at((2.0, 2.0, 2.0))[0], [100, 80, 60])
    assert evidence.median_body_vox((2.0, 2.0, 2.0)) == (200, 160, 120)


def test_a_body_has_a_voxel_at_least(make_evidence: Callable[..., Evidence]) -> None:
    assert make_evidence({"shape_vox": (5, 5, 1)}).median_body_vox((50.0, 50.0, 50.0)) == (1, 1, 1)


def test_histograms_are_summed(make_evidence: Callable[..., Evidence]) -> None:
    evidence = make_evidence({}, {})
    assert evidence.histogram.sum() == 8
    assert evidence.foreground_histogram.sum() == 6
