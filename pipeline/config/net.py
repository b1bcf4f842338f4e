"""Which network is trained."""

from typing import Any, Literal

from pydantic import Field

from pipeline.config.section import Section, Weight


class NetSection(Section):
    name: str = Field("UNet3d", description="UNet3d, UCTransNet3d, TransFuse3d, monai.NAME, or package.module:Class")
    options: dict[str, Any] = Field({}, description="the network's own arguments")
    checkpoint: Literal["none", "blocks", "deep", "auto"] = Field(
        "none", description="what backward recomputes to save memory; auto: just enough for the memory at hand"
    )
    strip_final_activation: bool = Field(False, description="take off an activation that the network ends in")
    head_weights: tuple[Weight, ...] = Field((), description="weight of each training output, if there are several")
