"""Which patches are drawn."""

from typing import Literal

from pydantic import Field

from pipeline.config.section import Count, Natural, Probability, Section


class SampleSection(Section):
    patch_vox: tuple[Count, Count, Count] = Field((96, 96, 96), description="patch along x, y, z in training voxels")
    batch: Count = Field(2, description="patches a step")
    positive: Probability = Field(0.5, description="share of a batch with a target class guaranteed; at least one is")
    workers: Natural | Literal["auto"] = Field("auto", description="loader processes; 0 loads in the training process")
