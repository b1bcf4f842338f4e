"""The picture of a held-out case as training goes on: three planes through one point, always the same.

Columns show the CT, the truth over it, the prediction over it, and where the two differ over a darker CT.
"""

from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.labels import IGNORE
from pipeline.report.figures import PLANES, Colour, as_seen, colour_of, overlay_slice
from pipeline.volume.grid import Float3, Int3
from pipeline.volume.volume import Volume

WIDEST_PX, TALLEST_PX = 176, 264  # a plane: most pictures of CT then have less than 100 kB
MOST_BYTES = 200_000  # of a picture; one of a noisy CT has smaller planes
FAST = 2  # of zlib's levels: as small as with 6 in two fifths of its time
NARROWEST_PX = 150  # a column, for its title
GAP_PX = 4
STRIP_PX = 16  # a line of text
TEXT_PX = 11
COLUMNS = ("CT", "truth", "prediction", "difference")
SIDES = {"axial": "right on the left", "coronal": "right on the left", "sagittal": "front on the left"}
MISSED: Colour = (64, 128, 255)
FALSE_ALARM: Colour = (255, 48, 48)
OTHER_CLASS: Colour = (255, 255, 255)
DIFFERENCES = {"missed": MISSED, "false alarm": FALSE_ALARM, "other class": OTHER_CLASS}
WHITE: Colour = (255, 255, 255)


class Plane(NamedTuple):
    """A plane as it is drawn: HU, float32; truth and prediction, uint8; (a, b) pixels, two RAS+ axes in their order."""

    name: str
    hu: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


class Entry(NamedTuple):
    """A word of the legend: where its square stands, and its colour."""

    x_px: int
    line: int
    word: str
    colour: Colour


def overlay_png(
    image: Volume, truth: np.ndarray, prediction: np.ndarray, names: Sequence[str], window_hu: tuple[float, float],
    widest_px: int = WIDEST_PX,
) -> bytes:  # fmt: skip
    """Return a PNG of the planes through `fixed_point(truth)`; nothing in it is random.

    image: HU (x, y, z) on its grid; a pixel has the same mm both ways, so that bodies have their shape whatever the
    spacing is. truth, prediction: class indices (x, y, z), uint8; 255 is drawn as background and is no difference.
    names: of the classes 1..n, for the legend. window_hu: what becomes black and white. widest_px: of a plane; less
    where the PNG would have more than 200 kB. Right is on the left, front or head at the top.
    """
    planes = list(planes_of(image, truth, prediction, widest_px))
    png = drawn(planes, [panels_of(plane, window_hu) for plane in planes], names)
    if len(png) > MOST_BYTES and widest_px > 1:
        return overlay_png(image, truth, prediction, names, window_hu, widest_px * 3 // 4)
    return png


def fixed_point(truth: np.ndarray) -> Int3:
    """Return a voxel of a class near the middle of all of them; the middle of a volume (x, y, z) that has none.

    Of the axial planes with a class it lies in the one nearest their centre, and of the voxels of a class in that plane
    it is the one nearest theirs: what is drawn through it shows a class in every plane.
    """
    foreground = (truth != 0) & (truth != IGNORE)
    by_level = foreground.view(np.uint8).sum(axis=0, dtype=np.uint32).sum(axis=0)  # one fast pass over the volume
    if not by_level.any():
        x, y, z = (n // 2 for n in truth.shape)
        return x, y, z
    levels = np.flatnonzero(by_level)
    z = int(levels[np.abs(levels - np.average(levels, weights=by_level[levels])).argmin()])
    inside = np.argwhere(foreground[:, :, z])
    x, y = inside[np.square(inside - inside.mean(axis=0)).sum(axis=1).argmin()].tolist()
    return x, y, z


def planes_of(image: Volume, truth: np.ndarray, prediction: np.ndarray, widest_px: int) -> Iterator[Plane]:
    """Yield the three planes through the fixed point, brought to pixels of the same size in all of them."""
    point = fixed_point(truth)
    x_mm, y_mm, z_mm = extent_mm = image.grid.extent_mm
    pixel_mm = max(max(x_mm, y_mm) / widest_px, z_mm / (widest_px * TALLEST_PX / WIDEST_PX))
    for name, axis in PLANES.items():
        size_px = pixels_of(extent_mm, axis, pixel_mm)
        hu, true, predicted = (np.take(voxels, point[axis], axis) for voxels in (image.voxels, truth, prediction))
        yield Plane(
            name,
            resized(hu.astype(np.float32), size_px, Image.Resampling.BILINEAR),
            resized(true, size_px, Image.Resampling.NEAREST),
            resized(predicted, size_px, Image.Resampling.NEAREST),
        )


def pixels_of(extent_mm: Float3, axis: int, pixel_mm: float) -> tuple[int, int]:
    """Return the pixels of the plane across an axis, at least one each way."""
    first, second = (max(1, round(mm / pixel_mm)) for other, mm in enumerate(extent_mm) if other != axis)
    return first, second


def resized(plane: np.ndarray, size_px: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """Return a plane (a, b) at another size; where it shrinks, BILINEAR averages."""
    return np.asarray(Image.fromarray(plane).resize(size_px[::-1], how))


def panels_of(plane: Plane, window_hu: tuple[float, float]) -> list[np.ndarray]:
    """Return a plane's picture for every column, (rows, columns, 3), uint8."""
    nothing = np.zeros_like(plane.truth)
    bare = overlay_slice(plane.hu, nothing, nothing, window_hu)
    shown = [overlay_slice(plane.hu, labels, labels, window_hu) for labels in (plane.truth, plane.prediction)]
    return [bare, *shown, difference(bare, as_seen(plane.truth), as_seen(plane.prediction))]


def difference(bare: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return the CT's picture at half its brightness, in colours where truth and prediction (rows, columns) differ."""
    pixels = bare // 2
    differ = (truth != prediction) & (truth != IGNORE)
    pixels[differ] = OTHER_CLASS
    pixels[differ & (prediction == 0)] = MISSED
    pixels[differ & (truth == 0)] = FALSE_ALARM
    return pixels


def drawn(planes: Sequence[Plane], panels: Sequence[Sequence[np.ndarray]], names: Sequence[str]) -> bytes:
    """Return the PNG of the panels of all planes, with titles and legend."""
    column_px = max(NARROWEST_PX, *(row[0].shape[1] for row in panels)) + GAP_PX
    width_px = len(COLUMNS) * column_px
    font = load_font()
    legend = legend_of(names, width_px, font)
    legend_px = (legend[-1].line + 1) * STRIP_PX
    canvas = Image.new("RGB", (width_px, sum(STRIP_PX + row[0].shape[0] for row in panels) + legend_px))
    draw = ImageDraw.Draw(canvas)
    top_px = 0
    for plane, row in zip(planes, panels, strict=True):
        titles = [f"{plane.name}, {SIDES[plane.name]}", *(COLUMNS[1:] if top_px == 0 else ())]
        for column, title in enumerate(titles):
            draw.text((column * column_px, top_px), title, WHITE, font)
        for column, panel in enumerate(row):
            canvas.paste(Image.fromarray(panel), (column * column_px, top_px + STRIP_PX))
        top_px += STRIP_PX + row[0].shape[0]
    for entry in legend:
        x_px, y_px = entry.x_px, top_px + entry.line * STRIP_PX
        draw.rectangle((x_px, y_px + 3, x_px + 9, y_px + 12), entry.colour)
        draw.text((x_px + 14, y_px), entry.word, WHITE, font)
    file = BytesIO()
    canvas.save(file, "PNG", compress_level=FAST)
    return file.getvalue()


def legend_of(names: Sequence[str], width_px: int, font: ImageFont.FreeTypeFont) -> list[Entry]:
    """Return what differences and classes are called, in as many lines as a width needs."""
    words = [*DIFFERENCES.items(), *((name, colour_of(label)) for label, name in enumerate(names, 1))]
    entries: list[Entry] = []
    x_px = line = 0
    for word, colour in words:
        length_px = 14 + int(font.getlength(word)) + 12
        if x_px and x_px + length_px > width_px:
            x_px, line = 0, line + 1
        entries.append(Entry(x_px, line, word, colour))
        x_px += length_px
    return entries


def load_font() -> ImageFont.FreeTypeFont:
    """Return the font that matplotlib brings along, which has most of the world's letters."""
    with as_file(files("matplotlib") / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf") as path:
        return ImageFont.truetype(path, TEXT_PX)
