"""The picture of a case: three planes of the CT with the outlines of truth and prediction."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.files import replacing
from pipeline.labels import IGNORE
from pipeline.report.figures import PLANES, as_seen, colour_of
from pipeline.volume.body import body_box
from pipeline.volume.grid import box_of
from pipeline.volume.volume import Volume


def draw_case(
    path: Path,
    image: Volume,
    truth: np.ndarray,
    prediction: np.ndarray,
    names: Sequence[str],
    window_hu: tuple[float, float] = (-200, 400),
    title: str = "",
) -> None:
    """Write a PNG with an axial, a coronal and a sagittal slice; truth in dashed lines, prediction in solid ones.

    image: HU (x, y, z) on its grid; air around the body is cut off. truth, prediction: encoded labels (x, y, z),
        uint8; 255 is drawn as background.
    names: of the classes 1..n, for the legend. Of each plane that slice is shown which cuts most classes, and of
    those the one that cuts most voxels of them; the middle one where the truth has none.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    body = box_of(*body_box(image.voxels))
    voxels = image.voxels[body]
    truth, prediction = (np.where(labels == IGNORE, 0, labels)[body] for labels in (truth, prediction))
    for axes, (plane, axis) in zip(figure.subplots(1, 3), PLANES.items(), strict=True):
        position = _telling_slice(truth, axis)
        across, up = np.delete(image.grid.spacing_mm, axis)
        low, high = window_hu
        grey = as_seen(np.take(voxels, position, axis))
        axes.imshow(grey, cmap="gray", vmin=low, vmax=high, aspect=up / across, interpolation="bilinear")
        _draw_outlines(axes, as_seen(np.take(truth, position, axis)), "dashed")
        _draw_outlines(axes, as_seen(np.take(prediction, position, axis)), "solid")
        axes.set_title(plane, color="white")
        axes.set_axis_off()
    _add_legend(figure, names)
    figure.suptitle(title, color="white")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _add_legend(figure: Figure, names: Sequence[str]) -> None:
    """Say below the slices what lines and colours mean."""
    styles = [Line2D([], [], color="white", linestyle=style) for style in ("solid", "dashed")]
    patches = [Line2D([], [], color=_colour(label), linewidth=4) for label in range(1, len(names) + 1)]
    figure.legend(
        [*styles, *patches],
        ["prediction", "truth", *names],
        loc="outside lower center",
        ncols=8,
        labelcolor="white",
        facecolor="black",
    )


def _telling_slice(truth: np.ndarray, axis: int) -> int:
    """Return the index along `axis` of the slice with most classes, then most voxels; the middle without any."""
    others = tuple(other for other in range(3) if other != axis)
    if not truth.any():
        return truth.shape[axis] // 2
    classes = sum((truth == label).any(axis=others).astype(int) for label in np.unique(truth[truth > 0]))
    voxels = np.count_nonzero(truth, axis=others)
    return int(np.lexsort((voxels, classes))[-1])


def _draw_outlines(axes: Axes, labels: np.ndarray, style: str) -> None:
    """Draw the border of each class of a plane (rows, columns)."""
    padded = np.pad(labels, 1)  # so that an outline closes at the edge of the picture
    rows, columns = (np.arange(-1, n + 1) for n in labels.shape)
    for label in np.unique(labels[labels > 0]):
        axes.contour(
            columns, rows, padded == label, levels=[0.5], colors=[_colour(int(label))], linestyles=style, linewidths=1.2
        )


def _colour(label: int) -> tuple[float, float, float]:
    """Return a class's colour as matplotlib wants it, 0..1."""
    red, green, blue = colour_of(label)
    return red / 255, green / 255, blue / 255
