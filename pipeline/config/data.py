"""Where the cases come from, and how they are split."""

from pydantic import Field

from pipeline.config.section import Location, Section


class DataSection(Section):
    source: Location | None = Field(None, description="folder with images/ and labels/, and optionally dataset.json")
    store: Location | None = Field(None, description="prepared cases of another work folder; default: <work>/store")
    exclude: tuple[str, ...] = Field((), description="names of cases to leave out")
    folds: int = Field(5, ge=2, description="parts that the training cases are split into, by patient")
