"""How the intensities of a patch are changed: noise, blur, low resolution, brightness, contrast and gamma."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from pipeline.config.augment import AugmentSection
from pipeline.sampling.deformation import log_uniform
from pipeline.volume.interpolate import along_axis, gaussian_matrix, linear_matrix, overlap_matrix

# A normal deviate for each of 2^16 equally probable numbers, up to 4.3: four to ten times faster than NumPy's, with the
# same bits on every machine.
NORMAL = ndtri((np.arange(2**16) + 0.5) / 2**16).astype(np.float32)
DEVIATES_IN_WORD = 4
NEARLY_0 = 1e-36  # NumPy takes eight times longer for powers of 0 or below 1e-38, and half of a CT is air


@dataclass(frozen=True)
class Strengths:
    """What is done to the intensities of a patch, in this order; None where nothing is.

    noise_std: deviation of the noise, as a share of the window. blur_vox: deviation of the Gaussian along x, y, z.
    low_resolution: share of the voxels along an axis that are kept. brightness, contrast: factors.
    gamma_inverted, gamma: powers.
    """

    noise_std: float | None
    blur_vox: tuple[float, float, float] | None
    low_resolution: float | None
    brightness: float | None
    contrast: float | None
    gamma_inverted: float | None
    gamma: float | None


def draw_strengths(augment: AugmentSection, random: np.random.Generator) -> Strengths:
    """Choose what is done to a patch, and how strongly.

    Factors and powers are log-uniform, the others uniform. All numbers are drawn, in this order, needed or not: a
    change that is turned on or off leaves the others as they are.
    """
    noisy, brightened, contrasted, bent = random.random(4) < (
        augment.noise_probability,
        augment.brightness_probability,
        augment.contrast_probability,
        augment.gamma_probability,
    )
    noise_std = random.uniform(0, augment.noise_std)
    brightness, contrast, gamma = (
        log_uniform(bounds, random) for bounds in (augment.brightness, augment.contrast, augment.gamma)
    )
    blurred, coarsened, bent_inverted = random.random(3) < (
        augment.blur_probability,
        augment.low_resolution_probability,
        augment.gamma_inverted_probability,
    )
    x, y, z = random.uniform(*augment.blur_vox, 3).tolist()
    low_resolution = random.uniform(*augment.low_resolution)
    gamma_inverted = log_uniform(augment.gamma, random)
    return Strengths(
        noise_std=noise_std if noisy else None,
        blur_vox=(x, y, z) if blurred else None,
        low_resolution=low_resolution if coarsened else None,
        brightness=brightness if brightened else None,
        contrast=contrast if contrasted else None,
        gamma_inverted=gamma_inverted if bent_inverted else None,
        gamma=gamma if bent else None,
    )


def change_intensities(
    scaled: np.ndarray, strengths: Strengths, fine: tuple[bool, bool, bool], random: np.random.Generator
) -> np.ndarray:
    """Return a patch (x, y, z) float32 in 0..1, window-scaled, with its intensities changed: float32 in 0..1.

    fine: the axes that blur and low resolution smooth. random: where the noise comes from. Changes `scaled`.
    """
    if strengths.noise_std is not None:
        scaled += gaussian_noise(scaled.shape, strengths.noise_std, random)
    if strengths.blur_vox is not None or strengths.low_resolution is not None:
        scaled = smooth(scaled, strengths.blur_vox, strengths.low_resolution, fine)
    if strengths.brightness is not None or strengths.contrast is not None:
        lift(scaled, strengths.brightness or 1.0, strengths.contrast or 1.0)
    np.clip(scaled, 0, 1, out=scaled)  # as the window clips what a scanner gives
    if strengths.gamma_inverted is not None:
        np.subtract(1, scaled, out=scaled)
        bend(scaled, strengths.gamma_inverted)
        np.subtract(1, scaled, out=scaled)
    if strengths.gamma is not None:
        bend(scaled, strengths.gamma)
    return scaled


def gaussian_noise(shape: tuple[int, ...], std: float, random: np.random.Generator) -> np.ndarray:
    """Return independent normal values of mean 0 and deviation `std`, float32, by inverting their distribution."""
    count = int(np.prod(shape))
    words = random.integers(0, 2**64 - 1, -(-count // DEVIATES_IN_WORD), np.uint64, endpoint=True)
    return (NORMAL * np.float32(std)).take(words.view(np.uint16)[:count]).reshape(shape)


def smooth(
    scaled: np.ndarray,
    blur_vox: tuple[float, float, float] | None,
    low_resolution: float | None,
    fine: tuple[bool, bool, bool],
) -> np.ndarray:
    """Blur a patch, then take it to a low resolution and back, along its fine axes: one matrix an axis does both."""
    for axis in np.flatnonzero(fine).tolist():
        size = scaled.shape[axis]
        matrix = np.eye(size) if blur_vox is None else gaussian_matrix(size, blur_vox[axis])
        if low_resolution is not None:
            matrix = low_resolution_matrix(size, low_resolution) @ matrix
        scaled = along_axis(matrix.astype(np.float32), scaled, axis)
    return scaled


def low_resolution_matrix(size: int, share: float) -> np.ndarray:
    """Return (size, size): the average over each of `share` as many, larger voxels, and linear interpolation back."""
    count = max(1, round(size * share))
    width = size / count
    centres = (np.arange(count) + 0.5) * width - 0.5
    back = (np.arange(size) + 0.5) / width - 0.5
    return linear_matrix(back, count) @ overlap_matrix(centres, size, width)


def lift(scaled: np.ndarray, brightness: float, contrast: float) -> None:
    """Multiply a patch by the brightness, then its distance from the mean by the contrast, in place."""
    mean = brightness * float(scaled.mean()) if contrast != 1 else 0.0
    scaled *= np.float32(brightness * contrast)
    scaled += np.float32((1 - contrast) * mean)


def bend(scaled: np.ndarray, power: float) -> None:
    """Raise a patch to a power, in place; 0 becomes 1e-36, or that to the power where it is below 1: 1e-18 for 0.5."""
    np.maximum(scaled, np.float32(NEARLY_0 ** (1 / max(1.0, power))), out=scaled)
    np.power(scaled, np.float32(power), out=scaled)
