"""Curves have one column each."""

from collections.abc import Callable

from pipeline.monitor.curves import column_of, columns_of, of_step, of_validation
from pipeline.monitor.vitals import Vitals

NAN = float("nan")


def points_of(vitals: Vitals) -> dict[str, float]:
    shares = {"bone": 0.75, "gland": 0.25}
    return of_step(
        vitals, patches_per_second=4.0, wait_share=0.1, findings=2, positive_share=shares, largest_case_share=0.5
    )


def test_every_curve_has_a_column_of_its_own_and_every_column_a_curve(well: Callable[..., Vitals]) -> None:
    measured = well(1, dice={"bone": 0.5, "gland": 0.25})
    curves = [*points_of(measured), *of_validation(0.5, {"bone": 0.5, "gland": 0.25})]
    columns = columns_of(["dice", "ce"], ["bone", "gland"], ["bone", "gland"])
    assert sorted(["step", *map(column_of, curves)]) == sorted(columns)
    assert len(set(columns)) == len(columns)


def test_columns_that_people_and_programs_know_have_their_names() -> None:
    names = {"loss/total": "loss", "loss/ce": "ce_part", "speed/learning_rate": "lr", "health/grad_norm": "grad_norm",
             "speed/patches_per_second": "patches_per_second", "dice/mean": "dice", "dice/bone": "dice bone",
             "predicted_share/bone": "predicted_share bone"}  # fmt: skip
    assert {curve: column_of(curve) for curve in names} == names


def test_what_was_not_measured_has_no_point(well: Callable[..., Vitals]) -> None:
    points = points_of(well(1, update_share=None, image_std=None, predicted={}, dice={}))
    assert not [name for name in points if "update" in name or "image" in name or name.startswith(("pred", "patch_"))]
    assert points["health/positives"] == 1 and points["speed/memory_gib"] == 10**9 / 2**30


def test_a_loss_that_is_no_number_is_shown_and_a_score_is_not(well: Callable[..., Vitals]) -> None:
    assert points_of(well(1, loss=NAN))["loss/total"] != points_of(well(1, loss=NAN))["loss/total"]
    assert of_validation(0.5, {"bone": 0.5, "gland": NAN}) == {"dice/mean": 0.5, "dice/bone": 0.5}
