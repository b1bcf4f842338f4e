"""How a drawn patch is cut and changed: its shape, then labels by the mirror, then intensities."""

import numpy as np

from pipeline.config.augment import AugmentSection
from pipeline.labels import IGNORE, Labels
from pipeline.sampling.deformation import draw_deformation, fine_axes
from pipeline.sampling.draw import INTENSITY, Draw, generator
from pipeline.sampling.intensities import change_intensities, draw_strengths
from pipeline.sampling.spatial import crop, warp
from pipeline.store.reader import PreparedCase
from pipeline.volume.grid import Int3
from pipeline.volume.intensity import Intensity


def make_patch(
    case: PreparedCase, drawn: Draw, patch_vox: Int3, augment: AugmentSection, intensity: Intensity, labels: Labels
) -> tuple[np.ndarray, np.ndarray]:
    """Return the finished patch of a draw: image float32, standardised, and class indices uint8, of `patch_vox`.

    Deterministic in its arguments: random numbers come from the draw's key. Raises UserError where the case cannot be
    read or is damaged, and RuntimeError, an internal error, where the finished label at the draw's place is not the
    one that it promises.
    """
    spacing_mm = case.grid.spacing_mm
    deformation = draw_deformation(drawn, augment, spacing_mm, patch_vox)
    if deformation is None:
        image_hu, encoded = crop(case, drawn, patch_vox)
    else:
        image_hu, encoded = warp(case, drawn, deformation, patch_vox)
    if drawn.mirror[0] and labels.swap:
        encoded = swap_sides(encoded, labels)
    check_promise(drawn, int(encoded[drawn.place_vox]), case)
    random = generator(drawn.key, INTENSITY)
    strengths = draw_strengths(augment, random)
    image = change_intensities(intensity.scale(image_hu), strengths, fine_axes(spacing_mm, augment.anisotropy), random)
    image -= np.float32(intensity.mean)
    image /= np.float32(intensity.std)
    return image, encoded


def swap_sides(encoded: np.ndarray, labels: Labels) -> np.ndarray:
    """Exchange the classes of each swap pair, as mirroring on x does: uint8 -> uint8."""
    table = np.arange(256, dtype=np.uint8)
    for index in range(1, len(labels.names) + 1):
        table[index] = labels.swapped(index)
    return table.take(encoded)


def check_promise(drawn: Draw, found: int, case: PreparedCase) -> None:
    """Raise RuntimeError where the finished label at a draw's place is not what the draw promises.

    Where that comes of a damaged file of the case, a UserError that names it.
    """
    kept = found != IGNORE if drawn.label is None else found == drawn.label
    if not kept:
        case.check_hashes()
        promised = "any annotated label" if drawn.label is None else f"label {drawn.label}"
        raise RuntimeError(
            f"(seed, step, slot) {drawn.key}: {promised} was promised at {drawn.place_vox} of a patch of "
            f"{drawn.case}, but label {found} is there."
        )
