"""The model folder: weights, and in plain JSON all that applying them needs."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline import files
from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.nets import registry
from pipeline.volume.grid import Float3, Int3
from pipeline.volume.intensity import Intensity
from pipeline.work import MODEL

FORMAT = 1
ORDER_OF_OPERATIONS = ("windows", "blend logits", "restore by linear interpolation", "decide")
FACTS_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class ModelFacts:
    """What describes a trained network: with its weights, enough to segment a CT anywhere.

    head, labels: what the channels mean (`labels` are those of the head). spacing_mm: the training grid along x, y, z.
    intensity: what HU become. patch_vox: the window. net: how the network is made. provenance: where it comes from
    (the training data's fingerprint, steps, score; anything that JSON can say). channels_in: images stacked as input.
    Raises ValueError for a spacing, a window or channels that cannot be.
    """

    head: Head
    labels: Labels
    spacing_mm: Float3
    intensity: Intensity
    patch_vox: Int3
    net: NetSection
    provenance: Mapping[str, Any] = field(default_factory=dict)
    channels_in: int = 1

    def __post_init__(self) -> None:
        if not all(isfinite(step) and step > 0 for step in self.spacing_mm):
            raise ValueError(f"spacing_mm {self.spacing_mm}: expected three positive numbers")
        if not all(isinstance(n, int) and n >= 1 for n in (*self.patch_vox, self.channels_in)):
            raise ValueError(f"patch_vox {self.patch_vox}, channels_in {self.channels_in}: expected at least 1")

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "head": {"kind": self.head.kind, "threshold": self.head.threshold},
            "labels": self.labels.to_json(),
            "spacing_mm": list(self.spacing_mm),
            "intensity": self.intensity.to_json(),
            "patch_vox": list(self.patch_vox),
            "net": self.net.model_dump(mode="json"),
            "provenance": dict(self.provenance),
            "channels_in": self.channels_in,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "ModelFacts":
        """Make facts of what `to_json` gave. Raises KeyError, TypeError or ValueError where something is missing."""
        labels = Labels.from_json(given["labels"])
        spacing_x, spacing_y, spacing_z = given["spacing_mm"]
        x, y, z = given["patch_vox"]
        return cls(
            head=Head(given["head"]["kind"], labels, given["head"]["threshold"]),
            labels=labels,
            spacing_mm=(float(spacing_x), float(spacing_y), float(spacing_z)),
            intensity=Intensity.from_json(given["intensity"]),
            patch_vox=(x, y, z),
            net=NetSection.model_validate(given["net"]),
            provenance=given["provenance"],
            channels_in=given["channels_in"],
        )


@dataclass(frozen=True, eq=False)
class Model:
    """A network and what describes it."""

    facts: ModelFacts
    net: nn.Module

    def save(self, folder: Path) -> None:
        """Write `model.json` and `weights.safetensors`; the folder is replaced as a whole, or left as it was.

        A network that was compiled or wrapped for several devices is given here as the module inside.
        """
        weights = storable(self.net.state_dict())
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            save_file(weights, temporary / WEIGHTS_FILE)
            description = {
                "format": FORMAT,
                "order_of_operations": ORDER_OF_OPERATIONS,
                "facts": self.facts.to_json(),
                "weights_sha256": files.hash_file(temporary / WEIGHTS_FILE),
                "versions": {
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                    "monai": version("monai"),
                },
            }
            files.write_json(temporary / FACTS_FILE, description)

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu", *, allow: str | None = None) -> "Model":
        """Read a model folder: the network in eval mode on `device`, and its facts. No code in it is run.

        allow: the `net.name` of the user's own config. A network class outside the project (package.module:Class) is
            only imported if it is this one.

        Raises UserError where the folder or a file of it is missing, altered, torn, of another format version, where
        its class is not allowed, and where the weights are not those of the network that `model.json` describes.
        """
        description = read_description(folder)
        facts = facts_of(description, folder)
        check_allowed(facts.net.name, allow, folder)
        weights = read_weights(description, folder)
        net = registry.build(facts.net, facts.channels_in, facts.head.channels, facts.patch_vox)
        check_weights(weights, net.state_dict(), folder)
        net.load_state_dict(weights)
        return cls(facts, net.to(device).eval())


def storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU that safetensors takes: contiguous, and no two of them in the same memory."""
    return {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}


def read_facts(folder: Path) -> ModelFacts:
    """Return what `model.json` of a model folder says. Raises UserError as `Model.load` does; weights are not read."""
    return facts_of(read_description(folder), folder)


def is_whole(folder: Path) -> bool:
    """True for a model folder with the facts and the weights that were written, the network aside."""
    try:
        checked_weights(read_description(folder), folder)
    except (UserError, OSError):
        return False
    return True


def hash_of(folder: Path) -> str:
    """Return 16 hex digits that stand for a model: its facts, its weights and the versions it was made with."""
    return files.hash_json(read_description(folder))


def models_below(folder: Path) -> list[Path]:
    """Return the model folders of the work folder, the run or the folder of runs that a user named instead of one."""
    files_found = (path for place in ("", "*/", "*/*/") for path in folder.glob(f"{place}{MODEL}/{FACTS_FILE}"))
    return sorted(path.parent for path in files_found)


def check_folder(folder: Path, key: str) -> None:
    """Refuse a folder without `model.json` that has model folders below it: `key` means one of these."""
    below = [] if (folder / FACTS_FILE).exists() else models_below(folder)
    if below:
        raise UserError(
            f"{key}: {folder} is no model folder, as it has no {FACTS_FILE}; did you mean "
            f"{' or '.join(map(str, below))}?"
        )


def read_description(folder: Path, key: str = "infer.model") -> dict[str, Any]:
    """Read `model.json` and check its format version. key: where the folder was named."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder; train a model first, or set infer.model to one.")
    check_folder(folder, key)
    path = folder / FACTS_FILE
    description = files.read_json(path)
    written = description.get("format") if isinstance(description, dict) else None
    if written != FORMAT:
        raise UserError(
            f"{path}: format version {json.dumps(written)}; this version of the pipeline reads {FORMAT}. Use the "
            "version that wrote the model, or train it again."
        )
    return description


def facts_of(description: Mapping[str, Any], folder: Path) -> ModelFacts:
    """Return the facts in a description that was read from `folder`."""
    try:
        return ModelFacts.from_json(description["facts"])
    except (KeyError, TypeError, ValueError, ValidationError, UserError) as error:
        raise UserError(
            f"{folder / FACTS_FILE}: the facts are incomplete or altered ({type(error).__name__}: {error}); restore "
            "the file."
        ) from error


def read_weights(description: Mapping[str, Any], folder: Path) -> dict[str, Tensor]:
    """Return the weights of the folder that a description was read from: the state dict, on the CPU.

    Raises UserError as `checked_weights` does.
    """
    return load_file(checked_weights(description, folder))


def checked_weights(description: Mapping[str, Any], folder: Path) -> Path:
    """Return the file of the weights of the folder that a description was read from.

    Raises UserError where the file is missing, or is not the one that the description was written with.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"{path}: not found; restore the file or train the model again.")
    if files.hash_file(path) != description.get("weights_sha256"):
        raise UserError(
            f"{path}: not the weights that {FACTS_FILE} was written with (the SHA-256 differs): the file is torn, "
            "altered or another model's; copy the whole folder again."
        )
    return path


def check_allowed(name: str, allow: str | None, folder: Path) -> None:
    """Refuse to import a class on the word of a model folder alone: that would run whatever code it names."""
    if ":" in name and name != allow:
        raise UserError(
            f"{folder}: the model's network is the class {name}, outside the project; it is imported only if your own "
            f"config asks for it. If you trust it, set net.name={name}."
        )


def check_weights(saved: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse weights that are missing, left over, or of another shape than the network's, and name some of them."""
    differences = weight_differences(saved, expected)
    if differences:
        raise UserError(
            f"{folder / WEIGHTS_FILE}: not the weights of the network and head in {FACTS_FILE}: {differences}. Use the "
            "model folder as it was written."
        )


def weight_differences(saved: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Return in words which weights are missing, left over or of another shape, at most four; empty where none are."""
    differences = [f"{name} is missing" for name in expected if name not in saved]
    differences += [f"{name} is unknown to the network" for name in saved if name not in expected]
    differences += [
        f"{name} is {tuple(saved[name].shape)}, expected {tuple(weight.shape)}"
        for name, weight in expected.items()
        if name in saved and saved[name].shape != weight.shape
    ]
    more = f", and {len(differences) - 4} more" if len(differences) > 4 else ""
    return "; ".join(differences[:4]) + more
