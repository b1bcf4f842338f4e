"""Pictures of a CT slice with its labels, as plain pixels."""

from collections.abc import Sequence

import numpy as np

from pipeline.labels import IGNORE

Colour = tuple[int, int, int]

PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}  # and the axis that each looks along

# Okabe and Ito's colours for figures that everyone can tell apart, without black and grey; then lighter ones.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178),
    (255, 187, 120), (152, 223, 138), (197, 176, 213),
)  # fmt: skip
OPACITY = 0.35


def colour_of(label: int, colours: Sequence[Colour] = PALETTE) -> Colour:
    """Return the colour of the encoded class `label` (1..n); colours come round again where there are more classes."""
    return colours[(label - 1) % len(colours)]


def overlay_slice(
    image_hu: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    window_hu: tuple[float, float],
    colours: Sequence[Colour] = PALETTE,
) -> np.ndarray:
    """Draw a slice: the CT in grey, the prediction as a tint, the truth as an outline.

    image_hu: (a, b) HU; a and b are two of the RAS+ axes in their order, such as x, y for an axial slice.
    truth, prediction: (a, b) encoded labels, 0 is background; 255 is drawn as background.
    window_hu: HU that become black and white.

    Returns uint8 (b, a, 3) RGB as a radiologist sees it: right on the left, front or head at the top.
    """
    low, high = window_hu
    grey = np.clip((image_hu.astype(np.float32) - low) / (high - low), 0, 1) * 255
    pixels = np.repeat(grey[..., None], 3, axis=-1)
    table = np.zeros((256, 3), np.float32)
    table[1:IGNORE] = [colour_of(label, colours) for label in range(1, IGNORE)]
    tinted = (prediction != 0) & (prediction != IGNORE)
    pixels[tinted] = (1 - OPACITY) * pixels[tinted] + OPACITY * table[prediction[tinted]]
    outline = _outline(truth)
    pixels[outline] = table[truth[outline]]
    return as_seen(np.rint(pixels).astype(np.uint8))


def as_seen(plane: np.ndarray) -> np.ndarray:
    """Turn a plane (a, b, ...) of RAS+ axes into rows and columns (b, a, ...): right on the left, front or head up."""
    return np.ascontiguousarray(plane[::-1, ::-1].swapaxes(0, 1))


def _outline(labels: np.ndarray) -> np.ndarray:
    """Return where a class touches another value across a pixel's side, or the edge of the picture; bool (a, b)."""
    padded = np.pad(labels, 1)
    centre = padded[1:-1, 1:-1]
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs = np.logical_or.reduce([side != centre for side in sides])
    return differs & (centre != 0) & (centre != IGNORE)
