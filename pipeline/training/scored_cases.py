"""What a validation has scored so far, in a file of the run, so that one that was interrupted goes on after it."""

import hashlib
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.files import hash_json, read_json, write_json
from pipeline.log import listed, log

FILE = "validation.json"
EVERY_S = 5.0  # of a validation, which is what a kill may cost it beside the case that is being predicted


class ScoredCases:
    """What is known of cases, JSON values by name, with the weights that a network has now.

    path: of the file; None on all ranks but the first, and where nothing is to be kept. A file of other weights, as of
    an earlier validation, is overwritten once this one has lasted for some seconds; an altered one is not believed.
    """

    def __init__(self, path: Path | None, net: nn.Module) -> None:
        self.path = path
        self.weights = hash_weights(net) if path else ""
        self.cases: dict[str, Any] = self._kept(path) if path and path.exists() else {}
        self.written_at = time.monotonic()

    def _kept(self, path: Path) -> dict[str, Any]:
        try:
            found = read_json(path)
            if found["hash"] != hash_json(found["cases"]):
                raise UserError(f"{path}: altered since it was written.")
        except (UserError, KeyError, TypeError) as error:
            log.warning("the validation begins anew, as what is kept of it cannot be read (%s)", error)
            return {}
        if found["weights"] != self.weights:
            return {}
        cases: dict[str, Any] = found["cases"]
        log.info("the validation goes on; scored before: %s", listed(cases))
        return cases

    def add(self, cases: dict[str, Any]) -> None:
        """Take in what is known of more cases."""
        self.cases |= cases
        if self.path and time.monotonic() - self.written_at >= EVERY_S:
            write_json(self.path, {"weights": self.weights, "hash": hash_json(self.cases), "cases": self.cases})
            self.written_at = time.monotonic()


def hash_weights(net: nn.Module) -> str:
    """Return the SHA-256 of a network's weights and buffers, in hex."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
