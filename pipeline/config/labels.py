"""Which structures there are, and the values that stand for them in label files."""

from pydantic import ConfigDict, Field

from pipeline.config.section import Section
from pipeline.labels import Labels, Region, as_tuple

Values = int | tuple[int, ...]


class RegionSection(Section):
    classes: tuple[str, ...] = Field(description="classes that make up the region")
    write: str = Field(description="class whose value is written where the region is found")


class LabelsSection(Section):
    """Every key that is not a field below is the name of a class."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Values]

    background: Values = Field(0, description="value, or list of values, that means none of the classes")
    ignore: int | None = Field(None, description="value of voxels without annotation")
    swap: tuple[tuple[str, str], ...] = Field((), description="pairs of classes that mirroring on x exchanges")
    regions: dict[str, RegionSection] = Field({}, description="such as name: {classes: [...], write: class}")

    def build(self) -> Labels:
        """Return the labels. Raises UserError for values in two classes, unknown names, or no class at all."""
        return Labels(
            values={name: as_tuple(values) for name, values in (self.__pydantic_extra__ or {}).items()},
            regions=tuple(Region(name, given.classes, given.write) for name, given in self.regions.items()),
            ignore=self.ignore,
            swap=self.swap,
            background=as_tuple(self.background),
        )
