"""The spacing: nnU-Net's rule on hand-made data, and what may make it coarser."""

from collections.abc import Callable
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning.choice import Choice
from pipeline.planning.evidence import Evidence
from pipeline.planning.spacing import FEWEST_VOX, coarsened, fitted_spacing, natural_spacing

MakeEvidence = Callable[..., Evidence]
lengths_mm = st.floats(0.2, 20)


def test_the_natural_spacing_is_the_median_of_each_axis(make_evidence: MakeEvidence) -> None:
    evidence = make_evidence(*({"spacing_mm": (x, 0.7, 1.0)} for x in (0.5, 0.9, 5.0)))
    assert natural_spacing(evidence).value == (0.9, 0.7, 1.0)


def test_thick_slices_take_the_10th_percentile_of_their_axis(make_evidence: MakeEvidence) -> None:
    # 11 cases with 3, 4, ... 13 mm: the 10th percentile is the second one, the median would be 8
    evidence = make_evidence(*({"spacing_mm": (1.0, 1.0, 3.0 + n), "shape_vox": (300, 300, 30)} for n in range(11)))
    chosen = natural_spacing(evidence)
    assert chosen.value == (1.0, 1.0, 4.0)
    assert "thick slices" in chosen.reason


def test_thick_slices_do_not_become_thinner_than_the_plane(make_evidence: MakeEvidence) -> None:
    spacings = [(1.0, 1.0, 0.5)] * 2 + [(1.0, 1.0, 6.0)] * 3
    evidence = make_evidence(*({"spacing_mm": s, "shape_vox": (300, 300, 30)} for s in spacings))
    assert natural_spacing(evidence).value == (1.0, 1.0, 1.0)


def test_a_long_scan_with_thick_slices_keeps_the_median(make_evidence: MakeEvidence) -> None:
    evidence = make_evidence(*({"spacing_mm": (1.0, 1.0, z), "shape_vox": (300, 300, 200)} for z in (3.0, 5.0, 7.0)))
    assert natural_spacing(evidence).value == (1.0, 1.0, 5.0)


def test_the_finest_axes_become_coarser_first() -> None:
    assert coarsened((1.0, 1.0, 4.0), 16.0) == (2.0, 2.0, 4.0)
    assert coarsened((1.0, 2.0, 4.0), 16.0) == (2.0, 2.0, 4.0)
    assert coarsened((1.0, 1.0, 4.0), 125.0) == (5.0, 5.0, 5.0)


@given(st.tuples(lengths_mm, lengths_mm, lengths_mm), st.floats(0.01, 5000))
def test_a_coarser_grid_is_never_coarser_than_asked_for_nor_finer_than_it_was(
    spacing_mm: tuple[float, float, float], voxel_mm3: float
) -> None:
    found = coarsened(spacing_mm, voxel_mm3)
    assert all(new >= old for new, old in zip(found, spacing_mm, strict=True)) or found == spacing_mm
    if prod(spacing_mm) < voxel_mm3:
        assert 0.96 * voxel_mm3 <= prod(found) * (1 + 1e-9)
        assert prod(found) <= voxel_mm3 * (1 + 1e-6) or found == spacing_mm


def test_a_patch_that_covers_enough_leaves_the_spacing_alone(make_evidence: MakeEvidence) -> None:
    natural = Choice((1.0, 1.0, 1.0), "the median")
    body = 200 * 160 * 120
    assert fitted_spacing(make_evidence(), natural, body / 4, 0.25) is natural


def test_a_small_patch_makes_the_grid_coarser_until_it_covers_its_share(make_evidence: MakeEvidence) -> None:
    natural = Choice((1.0, 1.0, 1.0), "the median")
    body = 200 * 160 * 120
    chosen = fitted_spacing(make_evidence(), natural, body / 4 / 8, 0.25)  # an eighth of the voxels: twice the edges
    assert chosen.value == (2.0, 2.0, 2.0)
    assert "covers 25%" in chosen.reason


def test_a_grid_that_would_hardly_be_coarser_stays_and_no_class_is_blamed(make_evidence: MakeEvidence) -> None:
    natural = Choice((1.0, 1.0, 1.0), "the median")
    body = 200 * 160 * 120
    assert fitted_spacing(make_evidence(), natural, body / 4 / 1.002, 0.25) is natural


def test_no_grid_is_so_coarse_that_a_class_loses_its_voxels(make_evidence: MakeEvidence) -> None:
    evidence = make_evidence({"largest_vox": 8 * FEWEST_VOX})
    chosen = fitted_spacing(evidence, Choice((1.0, 1.0, 1.0), "the median"), 100.0, 0.25)
    assert chosen.value == (2.0, 2.0, 2.0)
    assert f"liver keeps {FEWEST_VOX} voxels" in chosen.reason


def test_a_class_that_is_small_already_keeps_the_grid_as_fine_as_the_data(make_evidence: MakeEvidence) -> None:
    chosen = fitted_spacing(make_evidence({"largest_vox": 10}), Choice((1.0, 1.0, 1.0), "the median"), 100.0, 0.25)
    assert chosen.value == (1.0, 1.0, 1.0)
    assert "liver is too small" in chosen.reason


def test_figures_of_millimetres_are_kept_to_four_digits(make_evidence: MakeEvidence) -> None:
    assert natural_spacing(make_evidence({"spacing_mm": (3.9059999, 0.9765625, 2.5)})).value == (3.906, 0.9766, 2.5)
    assert natural_spacing(make_evidence({"spacing_mm": (0.78125, 0.78125, 5.0)})).value == pytest.approx(
        (0.7812, 0.7812, 5.0)
    )
