"""What `plan` may spend when it proposes a config."""

from pydantic import Field

from pipeline.config.section import Location, Positive, Section


class PlanSection(Section):
    memory_gb: Positive | None = Field(
        None, description="memory that training may use, in GiB; default: most of what this device has"
    )
    output: Location | None = Field(None, description="YAML file to write; default: <work>/plan.yaml")
