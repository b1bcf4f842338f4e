"""How prepared cases lie on disk."""

from typing import Literal

from pydantic import Field

from pipeline.config.section import Section


class StoreSection(Section):
    compress: Literal["none", "lz4"] = Field("none", description="lz4: smaller files, slower patches")
