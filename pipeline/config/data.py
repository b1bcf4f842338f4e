"""Where the cases come from, and how they are split."""

from pydantic import Field

from pipeline.config.section import Location, Section


class DataSection(Section):
    source: Location | None = Field(None, description="data set: a folder in one of the layouts of docs/data.md, or a CSV file")
    store: Location | None = Field(None, description="prepared cases of another work folder; default: <work>/store")
    exclude: tuple[str, ...] = Field((), description="names of cases to leave out")
    overlap: tuple[str, ...] = Field(
        (), description="classes whose mask files may overlap; the one that is listed first wins"
    )
    folds: int = Field(5, ge=2, description="parts that the training cases are split into, by patient")
