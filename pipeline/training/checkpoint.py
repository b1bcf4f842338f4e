"""The state that a run continues from: a folder of safetensors and JSON that is whole or not there.

The last two states are kept. One that is torn or altered is named in a warning and the one before it is taken.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.errors import UserError
from pipeline.files import hash_file, read_json, remove, replacing, write_json
from pipeline.log import log
from pipeline.model import storable

FORMAT_VERSION = 1
KEPT = 2
TENSORS, FACTS = "tensors.safetensors", "state.json"


@dataclass(frozen=True, eq=False)
class State:
    """What stands after `step` finished steps: tensors by name (on the CPU once loaded), and facts of JSON values.

    digest: SHA-256, in hex, of the file of tensors that it was read from.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    digest: str = ""


def state_folders(folder: Path) -> list[Path]:
    """Return the saved states, the newest first."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{9}", path.name)]
    return sorted(found, reverse=True)


def state_folder(folder: Path, step: int) -> Path:
    """Return where the state after a step is saved."""
    return folder / f"step-{step:09d}"


def save_state(folder: Path, state: State) -> str:
    """Write a state, and remove all before it but the last; return the SHA-256 of its file of tensors."""
    written = state_folder(folder, state.step)
    with replacing(written) as temporary:
        temporary.mkdir()
        save_file(storable(state.tensors), temporary / TENSORS)
        digest = hash_file(temporary / TENSORS)
        write_facts(temporary, state.step, digest, state.facts)
    for old in [path for path in state_folders(folder) if path.name <= written.name][KEPT:]:
        remove(old)  # a later one, which could not be used, is none of the last two
    return digest


def save_facts(folder: Path, step: int, digest: str, facts: dict[str, Any]) -> bool:
    """Give the saved state of a step other facts, as its tensors are the same; return False where it is not there.

    digest: of its file of tensors, as `save_state` returned it. A kill leaves the state whole, with the facts before or
    those after.
    """
    written = state_folder(folder, step)
    try:
        stands = read_json(written / FACTS)["tensors_sha256"] == digest and (written / TENSORS).is_file()
    except (UserError, OSError, KeyError, TypeError):
        return False
    if not stands:
        return False
    write_facts(written, step, digest, facts)
    return True


def write_facts(folder: Path, step: int, digest: str, facts: dict[str, Any]) -> None:
    """Write what a state holds beside its tensors, whose SHA-256 in hex is `digest`."""
    told = {"format_version": FORMAT_VERSION, "step": step, "tensors_sha256": digest, "facts": facts}
    write_json(folder / FACTS, told)


def load_state(folder: Path) -> State | None:
    """Return the newest state that is whole, or None where there is none.

    Raises UserError where states are there and none of them can be used.
    """
    found = state_folders(folder)
    for path in found:
        try:
            return read_state(path)
        except (UserError, OSError, SafetensorError) as error:
            log.warning("%s: this state cannot be used (%s).", path, error)
        except (KeyError, TypeError):
            log.warning("%s: this state cannot be used (%s does not hold what was written).", path, FACTS)
    if found:
        raise UserError(
            f"{folder}: none of the {len(found)} saved states can be used; begin anew with train.restart=true."
        )
    return None


def read_state(path: Path) -> State:
    """Read one state and check that it is the one that was written."""
    written = read_json(path / FACTS)
    if written["format_version"] != FORMAT_VERSION:
        raise UserError(f"format version {written['format_version']}, this program reads {FORMAT_VERSION}")
    tensors = path / TENSORS
    if hash_file(tensors) != written["tensors_sha256"]:
        raise UserError(f"{tensors.name} is not what was written")
    return State(written["step"], load_file(tensors), written["facts"], written["tensors_sha256"])
