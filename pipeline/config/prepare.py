"""How cases are brought to the training grid."""

import re
from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.section import Natural, Section, Spacing


def check_shard(shard: str) -> str:
    """Accept "i/n" with 1 <= i <= n."""
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError("expected i/n with 1 <= i <= n, such as 3/8")
    return shard


class PrepareSection(Section):
    spacing_mm: tuple[Spacing, Spacing, Spacing] = Field((1.5, 1.5, 1.5), description="training grid along x, y, z")
    workers: Natural | Literal["auto"] = Field(
        "auto", description="processes; auto: the cores this process may use; 0: none, all in this one"
    )
    verify: bool = Field(False, description="read what is prepared already, and make again what its hashes do not fit")
    shard: str = Field("1/1", description="make every n-th case only, as i/n")

    _shard = field_validator("shard")(check_shard)
