"""How patches are changed while training."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Positive, Probability, Section

Range = tuple[Positive, Positive]

# Strengths and probabilities of `default` are nnU-Net's (Isensee et al. 2021, supplementary note 4).
PRESETS: dict[str, dict[str, Any]] = {
    "none": {
        "rotation_probability": 0.0, "scale_probability": 0.0, "gamma_probability": 0.0,
        "brightness_probability": 0.0, "contrast_probability": 0.0, "noise_probability": 0.0,
    },
    "light": {"rotation_deg": 15.0, "scale": (0.85, 1.2), "gamma": (0.8, 1.2), "noise_probability": 0.0},
    "default": {},
}  # fmt: skip


class AugmentSection(Section):
    preset: Literal["none", "light", "default"] = Field("default", description="starting values of the keys below")
    rotation_deg: float = Field(30.0, ge=0, le=180, description="largest rotation about each axis")
    rotation_probability: Probability = 0.2
    scale: Range = Field((0.7, 1.4), description="magnification")
    scale_probability: Probability = 0.2
    mirror: tuple[Literal["x", "y", "z"], ...] = Field((), description="axes mirrored with probability one half")
    gamma: Range = Field((0.7, 1.5), description="power applied to the window-scaled value")
    gamma_probability: Probability = 0.3
    brightness: Range = Field((0.75, 1.25), description="factor on the window-scaled value")
    brightness_probability: Probability = 0.15
    contrast: Range = Field((0.75, 1.25), description="factor on the distance from the patch mean")
    contrast_probability: Probability = 0.15
    noise_std: float = Field(0.1, ge=0, description="largest deviation of Gaussian noise, as a share of the window")
    noise_probability: Probability = 0.1

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, given: Any) -> Any:
        if isinstance(given, dict):
            # Strict validation takes JSON lists for tuples, but not the Python lists that arrive here.
            listed = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
            return PRESETS.get(str(given.get("preset", "default")), {}) | listed
        return given

    @field_validator("scale", "gamma", "brightness", "contrast")
    @classmethod
    def _ordered(cls, bounds: Range) -> Range:
        if bounds[0] > bounds[1]:
            raise ValueError("expected the lower bound first, such as [0.8, 1.2]")
        return bounds
