"""How a drawn patch is cut and changed: shape through `spatial`, then labels by the mirror, then intensities."""

import numpy as np

from pipeline.config.augment import AugmentSection
from pipeline.labels import IGNORE, Labels
from pipeline.sampling.draw import INTENSITY, Draw, generator
from pipeline.sampling.spatial import crop, draw_matrix, log_uniform, warp
from pipeline.store.reader import PreparedCase
from pipeline.volume.grid import Int3
from pipeline.volume.intensity import Intensity


def make_patch(
    case: PreparedCase, drawn: Draw, patch_vox: Int3, augment: AugmentSection, intensity: Intensity, labels: Labels
) -> tuple[np.ndarray, np.ndarray]:
    """Return the finished patch of a draw: image float32, standardised, and class indices uint8, of `patch_vox`.

    Deterministic in its arguments: random numbers come from the draw's key. Raises RuntimeError, an internal error,
    if the finished label at the draw's place is not the one that it promises.
    """
    matrix = draw_matrix(drawn, augment, case.grid.spacing_mm)
    if matrix is None:
        image_hu, encoded = crop(case, drawn, patch_vox)
    else:
        image_hu, encoded = warp(case, drawn, matrix, patch_vox)
    if drawn.mirror[0] and labels.swap:
        encoded = swap_sides(encoded, labels)
    check_promise(drawn, int(encoded[drawn.place_vox]))
    image = change_intensity(intensity.scale(image_hu), augment, generator(drawn.key, INTENSITY))
    return (image - intensity.mean) / intensity.std, encoded


def swap_sides(encoded: np.ndarray, labels: Labels) -> np.ndarray:
    """Exchange the classes of each swap pair, as mirroring on x does: uint8 -> uint8."""
    table = np.array([labels.swapped(index) for index in range(256)], np.uint8)
    return table[encoded]


def check_promise(drawn: Draw, found: int) -> None:
    """Raise RuntimeError where the finished label at a draw's place is not what the draw promises."""
    kept = found != IGNORE if drawn.label is None else found == drawn.label
    if not kept:
        promised = "any annotated label" if drawn.label is None else f"label {drawn.label}"
        raise RuntimeError(
            f"(seed, step, slot) {drawn.key}: {promised} was promised at {drawn.place_vox} of a patch of "
            f"{drawn.case}, but label {found} is there; the store may have changed while it was read."
        )


def change_intensity(scaled: np.ndarray, augment: AugmentSection, random: np.random.Generator) -> np.ndarray:
    """Apply noise, brightness, contrast and gamma, each by its probability, to a float32 image in 0..1.

    The result stays in 0..1, as the window clips what a scanner gives. The input is not changed.
    """
    noisy, brightened, contrasted, bent = random.random(4) < (
        augment.noise_probability,
        augment.brightness_probability,
        augment.contrast_probability,
        augment.gamma_probability,
    )
    deviation = random.uniform(0, augment.noise_std)
    brightness, contrast, gamma = (
        log_uniform(bounds, random) for bounds in (augment.brightness, augment.contrast, augment.gamma)
    )
    if noisy:
        scaled = scaled + random.standard_normal(scaled.shape, np.float32) * np.float32(deviation)
    if brightened:
        scaled = scaled * np.float32(brightness)
    if contrasted:
        mean = scaled.mean()
        scaled = (scaled - mean) * np.float32(contrast) + mean
    if noisy or brightened or contrasted:
        scaled = scaled.clip(0, 1)
    return scaled ** np.float32(gamma) if bent else scaled
