"""What `plan` may spend when it proposes a config."""

from pydantic import Field

from pipeline.config.section import Location, Positive, Section


class PlanSection(Section):
    memory_gb: Positive | None = Field(
        None, description="memory that training may use, in GiB; default: 80 % of what this device has free"
    )
    step_seconds: Positive | None = Field(
        None, description="longest training step; default: 1.5 on a CPU, 1 on a GPU, none for another device"
    )
    output: Location | None = Field(None, description="YAML file to write; default: <work>/plan.yaml")
