"""How patches are changed while training."""

import math
from typing import Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, ValidationInfo, field_validator, model_validator

from pipeline.config.section import Positive, Probability, Section

Range = tuple[Positive, Positive]

# A grid of control points d mm apart that move by less than d / 2.48 never folds tissue by itself (Choi and Lee,
# Injectivity conditions of 2D and 3D uniform cubic B-spline functions, Graphical Models 62, 2000).
LARGEST_ELASTIC_SHARE = 0.4

# Strengths and probabilities of `default` are nnU-Net 2.8's for one channel; docs/augmentation.md has the differences.
PRESETS: dict[str, dict[str, Any]] = {
    "none": {
        "rotation_probability": 0.0, "scale_probability": 0.0, "elastic_probability": 0.0, "noise_probability": 0.0,
        "blur_probability": 0.0, "low_resolution_probability": 0.0, "brightness_probability": 0.0,
        "contrast_probability": 0.0, "gamma_inverted_probability": 0.0, "gamma_probability": 0.0,
    },
    "light": {
        "rotation_deg": 15.0, "scale": (0.85, 1.2), "gamma": (0.8, 1.2), "noise_probability": 0.0,
        "blur_probability": 0.0, "low_resolution_probability": 0.0, "gamma_inverted_probability": 0.0,
    },
    "default": {},
}  # fmt: skip


class AugmentSection(Section):
    preset: Literal["none", "light", "default"] = Field("default", description="starting values of the keys below")
    mirror: tuple[Literal["x", "y", "z"], ...] = Field((), description="axes mirrored with probability one half")
    rotation_deg: float = Field(30.0, ge=0, le=180, description="largest rotation about each axis")
    rotation_probability: Probability = 0.2
    scale: Range = Field((0.7, 1.4), description="magnification")
    scale_probability: Probability = 0.2
    elastic_spacing_mm: Positive = Field(32.0, description="distance between the control points of a deformation")
    elastic_mm: float = Field(6.0, ge=0, description="largest shift of a control point along each axis")
    elastic_probability: Probability = 0.0
    anisotropy: float = Field(
        3.0, ge=1, description="axes whose spacing is more times the finest are not rotated, scaled, bent or smoothed"
    )
    noise_std: float = Field(0.03, ge=0, description="largest deviation of Gaussian noise, as a share of the window")
    noise_probability: Probability = 0.1
    blur_vox: Range = Field((0.5, 1.0), description="deviation of the Gaussian along each axis")
    blur_probability: Probability = 0.1
    low_resolution: Range = Field((0.5, 1.0), description="share of the voxels along each axis that are kept")
    low_resolution_probability: Probability = 0.125
    brightness: Range = Field((0.75, 1.25), description="factor on the window-scaled value")
    brightness_probability: Probability = 0.15
    contrast: Range = Field((0.75, 1.25), description="factor on the distance from the patch mean")
    contrast_probability: Probability = 0.15
    gamma: Range = Field((0.7, 1.5), description="power applied to the window-scaled value")
    gamma_inverted_probability: Probability = Field(0.1, description="of a power applied to the inverted value")
    gamma_probability: Probability = 0.3

    @model_validator(mode="wrap")
    @classmethod
    def _start_from_preset(cls, given: Any, validate: ModelWrapValidatorHandler["AugmentSection"]) -> "AugmentSection":
        if not isinstance(given, dict):
            return validate(given)
        # Strict validation takes JSON lists for tuples, but not the Python lists that arrive here.
        listed = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        section = validate(PRESETS.get(str(given.get("preset", "default")), {}) | listed)
        section.model_fields_set.intersection_update(given)  # what a preset says is not written out as if it were given
        return section

    @field_validator("scale", "blur_vox", "low_resolution", "brightness", "contrast", "gamma")
    @classmethod
    def _ordered(cls, bounds: Range) -> Range:
        if bounds[0] > bounds[1]:
            raise ValueError("expected the lower bound first, such as [0.8, 1.2]")
        return bounds

    @field_validator("low_resolution")
    @classmethod
    def _not_finer(cls, bounds: Range) -> Range:
        if bounds[1] > 1:
            raise ValueError("expected at most 1, the resolution of the patch, such as [0.5, 1]")
        return bounds

    @field_validator("elastic_mm")
    @classmethod
    def _not_folding(cls, elastic_mm: float, others: ValidationInfo) -> float:
        largest = LARGEST_ELASTIC_SHARE * others.data.get("elastic_spacing_mm", math.inf)
        if elastic_mm > largest:
            raise ValueError(
                f"expected at most {largest:g}, {LARGEST_ELASTIC_SHARE:g} of augment.elastic_spacing_mm: "
                "tissue would fold over itself"
            )
        return elastic_mm
