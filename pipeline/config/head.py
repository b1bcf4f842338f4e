"""What the network's channels mean."""

from typing import Literal

from pydantic import Field

from pipeline.config.section import Section


class HeadSection(Section):
    kind: Literal["softmax", "sigmoid", "regions"] = Field(
        "softmax", description="softmax: exclusive classes; sigmoid: a channel a class; regions: a channel a region"
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="probability at which sigmoid and regions say yes")
