"""What every config section is: frozen, and strict about unknown keys and types."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def check_device(device: str) -> str:
    """Accept auto, cpu, cuda and cuda:N."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError("expected auto, cpu, cuda or cuda:N")
    return device


def expand_home(path: Path) -> Path:
    """Replace a leading ~ by the user's home folder; refuse what no file system takes for a path."""
    if "\0" in str(path):
        raise ValueError("expected a path without a zero byte")
    return Path(os.path.expanduser(path))


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=1e-6, le=1e6)]  # sums of these stay exact enough, and above 0, in float32
Count = Annotated[int, Field(ge=1)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Natural = Annotated[int, Field(ge=0)]
Device = Annotated[str, AfterValidator(check_device)]
Location = Annotated[Path, AfterValidator(expand_home)]
Spacing = Annotated[float, Field(gt=0, le=50)]


class Section(BaseModel):
    """A group of settings. Field descriptions are what `--help` shows."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )
