"""How a trained network is applied to whole volumes."""

from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.prepare import check_shard
from pipeline.config.section import Count, Device, Location, Section, Threads


class InferSection(Section):
    input: Location | None = Field(None, description="a CT file or a folder of them; default: images of the test cases")
    model: Location | None = Field(None, description="model folder; default: that of train.fold in the work folder")
    overlap: float = Field(0.5, ge=0, lt=1, description="share of a window that the next one covers again")
    mirror: tuple[Literal["x", "y", "z"], ...] = Field(
        (), description="also predict windows mirrored along these axes and take the mean; twice the time for each"
    )
    keep_largest: tuple[str, ...] | Literal["all"] = Field(
        (), description="classes of which only the largest connected object is kept"
    )
    windows: Count = Field(2, description="windows in one forward pass")
    engine: Literal["torch"] = "torch"
    device: Device = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: Threads | Literal["auto"] = Field("auto", description="on the CPU; auto: its cores, or OMP_NUM_THREADS")
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    shard: str = Field("1/1", description="predict every n-th case only, as i/n")

    _shard = field_validator("shard")(check_shard)
