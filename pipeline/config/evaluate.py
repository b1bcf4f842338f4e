"""What predictions are compared with."""

from typing import Literal

from pydantic import Field

from pipeline.config.section import Count, Location, Positive, Section


class EvaluateSection(Section):
    truth: Location | None = Field(None, description="folder of label files; default: the test cases' labels")
    prediction: Location | None = Field(None, description="folder of predictions; default: <work>/predict")
    tolerance_mm: Positive = Field(2.0, description="distance up to which the normalised surface Dice forgives")
    workers: Count | Literal["auto"] = Field("auto", description="processes; auto: the cores this process may use")
