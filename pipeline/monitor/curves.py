"""Every number of a run that is drawn as a curve: its name on the board, its column in train.csv, and its page."""

from collections.abc import Iterable, Mapping
from math import isnan

from pipeline.monitor.vitals import Vitals

GIB = 2**30
# What is drawn of every step that is shown, in the order of columns, but for what has a curve for each class or part.
OF_STEPS = (
    "loss/total", "speed/learning_rate", "speed/patches_per_second", "speed/wait_share", "speed/memory_gib",
    "health/grad_norm", "health/logits_min", "health/logits_max", "health/update_share", "health/image_std",
    "health/positives", "health/largest_case_share", "health/findings",
)  # fmt: skip
SHORT = {"loss/total": "loss", "speed/learning_rate": "lr", "dice/mean": "dice"}  # columns
OF_CLASSES = ("predicted_share", "positive_share", "patch_dice")

# Titles of pages and their charts, and which curves a chart shows.
PAGES = {
    "loss": {"total": "loss/total$", "parts": "loss/(?!total$)"},
    "Dice": {
        "mean of the held-out cases": "dice/mean$",
        "held-out cases by class": "dice/(?!mean$)",
        "training patches by class": "patch_dice/",
    },
    "speed": {
        "patches a second": "speed/patches_per_second$",
        "share of the time spent waiting for data": "speed/wait_share$",
        "peak memory, GiB": "speed/memory_gib$",
        "learning rate": "speed/learning_rate$",
    },
    "health": {
        "gradient norm, before clipping": "health/grad_norm$",
        "smallest and largest logit": "health/logits_(min|max)$",
        "change of the weights in a step, by their length": "health/update_share$",
        "share of voxels predicted, by class": "predicted_share/",
        "share of positive patches, by class": "positive_share/",
        "positive patches in a batch": "health/positives$",
        "share of patches from the most drawn case": "health/largest_case_share$",
        "standard deviation of the input": "health/image_std$",
        "what is wrong, how many": "health/findings$",
    },
}


def column_of(curve: str) -> str:
    """Return the column of train.csv that holds the numbers of a curve."""
    group, _, name = curve.partition("/")
    if curve in SHORT:
        return SHORT[curve]
    if group in ("speed", "health"):
        return name
    return f"{name}_part" if group == "loss" else f"{group} {name}"


def columns_of(parts: Iterable[str], targets: Iterable[str], classes: Iterable[str]) -> list[str]:
    """Return the columns of train.csv. parts: of the loss. targets: of the head. classes: without background."""
    targets, classes = list(targets), list(classes)
    names = {"predicted_share": ["background", *classes], "positive_share": classes, "patch_dice": targets}
    curves = [*OF_STEPS, *(f"loss/{name}" for name in parts)]
    curves += [f"{group}/{name}" for group in OF_CLASSES for name in names[group]]
    curves += ["dice/mean", *(f"dice/{name}" for name in targets)]
    return ["step", *map(column_of, curves)]


def of_step(
    vitals: Vitals, *, patches_per_second: float, wait_share: float, findings: int,
    positive_share: Mapping[str, float], largest_case_share: float,
) -> dict[str, float]:  # fmt: skip
    """Return the points of a step by curve; what was not measured is left out.

    patches_per_second, wait_share: since the last step that was shown. findings: how many things are wrong.
    positive_share: of the positive patches so far, by class. largest_case_share: of all patches, from one case.
    """
    points: dict[str, float | None] = {
        "loss/total": vitals.loss,
        **{f"loss/{name}": value for name, value in vitals.parts.items()},
        "speed/learning_rate": vitals.lr,
        "speed/patches_per_second": patches_per_second,
        "speed/wait_share": wait_share,
        "speed/memory_gib": vitals.memory_bytes / GIB,
        "health/grad_norm": vitals.grad_norm,
        "health/logits_min": vitals.logits_min,
        "health/logits_max": vitals.logits_max,
        "health/update_share": vitals.update_share,
        "health/image_std": vitals.image_std,
        "health/positives": sum(vitals.drawn.values()),
        "health/largest_case_share": largest_case_share,
        "health/findings": findings,
        **{f"predicted_share/{name}": value for name, value in vitals.predicted.items()},
        **{f"positive_share/{name}": value for name, value in positive_share.items()},
        **{f"patch_dice/{name}": value for name, value in vitals.dice.items()},
    }
    return {curve: value for curve, value in points.items() if value is not None}


def of_validation(mean: float, by_target: Mapping[str, float]) -> dict[str, float]:
    """Return the points of a validation by curve; a score that is no number is left out."""
    points = {"dice/mean": mean, **{f"dice/{name}": value for name, value in by_target.items()}}
    return {curve: value for curve, value in points.items() if not isnan(value)}
