"""How HU become what the network sees."""

from pydantic import Field, field_validator

from pipeline.config.section import Positive, Section


class IntensitySection(Section):
    window_hu: tuple[float, float] = Field((-200, 400), description="clip to this range, then scale it to 0..1")
    gamma: Positive = Field(1.0, description="power applied to the scaled value; below 1 lifts dark tissue")
    mean: float | None = Field(None, description="standardise with this mean; default: measured on the training cases")
    std: Positive | None = Field(None, description="and this deviation; default: measured on the training cases")

    @field_validator("window_hu")
    @classmethod
    def _ordered(cls, window: tuple[float, float]) -> tuple[float, float]:
        if window[0] >= window[1]:
            raise ValueError("expected the lower bound first, such as [-200, 400]")
        return window
