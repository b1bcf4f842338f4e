"""Where the cases come from, and how they are split."""

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.config.section import Location, Section


def check_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse an order of one class, and a class that stands in it twice."""
    if len(names) == 1 or len(set(names)) < len(names):
        raise ValueError("expected two classes or more, each once, such as [liver, tumour]")
    return names


class DataSection(Section):
    source: Location | None = Field(None, description="data set: a folder in a layout of docs/data.md, or a CSV file")
    store: Location | None = Field(None, description="prepared cases of another work folder; default: <work>/store")
    exclude: tuple[str, ...] = Field((), description="names of cases to leave out")
    overlap: Annotated[tuple[str, ...], AfterValidator(check_order)] = Field(
        (), description="classes whose mask files may overlap; the one that is listed first wins"
    )
    folds: int = Field(5, ge=2, description="parts that the training cases are split into, by patient")
