"""Draw the picture of docs/augmentation.md: one patch of an example, changed in each way that there is.

python docs/augmentation.py docs/images/augmentation.png
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline.config.augment import AugmentSection
from pipeline.dataset.checks import load_pair
from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.files import replacing
from pipeline.labels import Labels
from pipeline.report.figures import as_seen, colour_of
from pipeline.sampling.augment import make_patch
from pipeline.sampling.draw import Draw
from pipeline.store.reader import PreparedCase
from pipeline.store.writer import write_case
from pipeline.volume.grid import box_of
from pipeline.volume.intensity import Intensity
from pipeline.volume.resample import resample_labels, to_training_grid

SOURCE = Path(__file__).resolve().parents[1] / "examples" / "head_neck"
CASE = "hn_001"
TARGET = "LeftParotid"
SPACING_MM = (2.0, 2.0, 2.0)
PATCH_VOX = (88, 88, 40)
PLACE_VOX = (26, 44, 20)
STEP = 123  # whose random angles and displacements show well
WINDOW = Intensity(window_hu=(-200, 400))

# Each change at its full strength, where the preset's range has one.
PANELS = {
    "none": {},
    "mirror": {},
    "rotation": {"rotation_probability": 1.0},
    "scale": {"scale_probability": 1.0, "scale": (1.4, 1.4)},
    "elastic": {"elastic_probability": 1.0, "elastic_mm": 12.0},
    "grid distortion": {"elastic_probability": 1.0, "elastic_mm": 20.0, "elastic_spacing_mm": 80.0},
    "noise": {"noise_probability": 1.0},
    "blur": {"blur_probability": 1.0, "blur_vox": (1.0, 1.0)},
    "low_resolution": {"low_resolution_probability": 1.0, "low_resolution": (0.5, 0.5)},
    "brightness": {"brightness_probability": 1.0, "brightness": (1.25, 1.25)},
    "contrast": {"contrast_probability": 1.0, "contrast": (1.25, 1.25)},
    "gamma_inverted": {"gamma_inverted_probability": 1.0, "gamma": (1.5, 1.5)},
    "gamma": {"gamma_probability": 1.0, "gamma": (1.5, 1.5)},
}
EVERYTHING = {key: 1.0 for key in AugmentSection.model_fields if key.endswith("_probability")}


def main() -> None:
    """Draw all panels into the file that is given."""
    labels = read_labels(SOURCE)
    assert labels is not None, "dataset.json names the classes"
    figure = Figure(figsize=(14, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = PANELS | {"everything": EVERYTHING}
    with TemporaryDirectory() as folder:
        case = prepare(Path(folder) / CASE, labels)
        for axes, (name, settings) in zip(figure.subplots(2, 7).ravel(), panels.items(), strict=True):
            drawn = mirrored(target(case, labels), labels) if name == "mirror" else target(case, labels)
            augment = AugmentSection(preset="none", **settings)
            draw_panel(axes, name, *make_patch(case, drawn, PATCH_VOX, augment, WINDOW, labels))
    with replacing(Path(sys.argv[1])) as temporary:
        figure.savefig(temporary, format="png", dpi=80, pil_kwargs={"optimize": True})


def prepare(folder: Path, labels: Labels) -> PreparedCase:
    """Return the example on a grid of `SPACING_MM`, as a prepared case."""
    found = next(case for case in find_cases(SOURCE, labels) if case.name == CASE)
    image, encoded = load_pair(found, labels)
    resampled, start, shape = to_training_grid(image, SPACING_MM)
    part = image.grid.crop(start, shape)
    voxels, put_back = resample_labels(encoded.voxels[box_of(start, shape)], part, resampled.grid)
    write_case(
        *(folder, CASE, resampled, voxels),
        key="",
        source_grid=image.grid,
        crop=(start, shape),
        put_back=put_back,
        sources={},
    )
    return PreparedCase.open(folder)


def target(case: PreparedCase, labels: Labels) -> Draw:
    """Return the draw that puts the middle one of the target's voxels at `PLACE_VOX`."""
    label = labels.names.index(TARGET) + 1
    _, encoded = case.read((0, 0, 0), case.grid.shape_vox)
    voxels = np.argwhere(encoded == label)
    x, y, z = voxels[np.square(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()].tolist()
    return Draw(CASE, label, (x, y, z), PLACE_VOX, (False, False, False), (0, STEP, 0))


def mirrored(drawn: Draw, labels: Labels) -> Draw:
    """Return the same draw mirrored on x: what is left becomes right."""
    assert drawn.label is not None
    return replace(drawn, mirror=(True, False, False), label=labels.swapped(drawn.label))


def draw_panel(axes: Axes, name: str, image: np.ndarray, encoded: np.ndarray) -> None:
    """Show the axial slice through the guaranteed voxel, which is marked, with the outlines of the labels."""
    x, y, z = PLACE_VOX
    axes.imshow(as_seen(image[:, :, z]), cmap="gray", vmin=0, vmax=1)
    plane = as_seen(encoded[:, :, z])
    for label in np.unique(plane[plane > 0]).tolist():
        colour = tuple(part / 255 for part in colour_of(label))
        axes.contour(plane == label, levels=[0.5], colors=[colour], linewidths=1)
    across, down = PATCH_VOX[0] - 1 - x, PATCH_VOX[1] - 1 - y
    axes.plot(across, down, marker="+", color="red", markersize=12, markeredgewidth=1.5)
    axes.set_title(name)
    axes.set_axis_off()


if __name__ == "__main__":
    main()
