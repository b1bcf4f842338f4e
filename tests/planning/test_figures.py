"""The figures on top of a plan."""

from collections.abc import Callable

from pipeline.dataset.fingerprint import CaseFingerprint
from pipeline.planning.evidence import Evidence, gather
from pipeline.planning.figures import lines_of


def test_least_median_and_most_and_a_line_for_each_class(make_evidence: Callable[..., Evidence]) -> None:
    spacings = [(0.5, 0.5, 1.0), (1.0, 1.0, 2.0), (1.0, 1.0, 5.0)]
    lines = lines_of(make_evidence(*({"spacing_mm": spacing} for spacing in spacings)), (2.0, 2.0, 2.0))
    assert lines[0].startswith("3 cases")
    assert "0.5 x 0.5 x 1   1 x 1 x 2   1 x 1 x 5" in lines[1]
    assert "0 to 110 (0.5 to 99.5 %)" in lines[4]
    # volumes of 20,000 voxels: 5, 40 and 100 ml; a tenth of the way up 12 ml, which is 1,500 voxels of 8 mm3
    assert lines[-1].split() == ["liver", "3", "40", "1", "0.52%", "1,500"]


def test_columns_stand_under_each_other_where_names_are_short(make_case: Callable[..., CaseFingerprint]) -> None:
    heading, row = lines_of(gather([make_case()], ["gut"]), (2.0, 2.0, 2.0))[-2:]
    assert row.startswith("gut      ")
    assert len(row) == len(heading)
