"""The layout of the Medical Segmentation Decathlon: a dataset.json that lists the files, by habit in imagesTr/.

Its lists are "training" of {"image": path, "label": path}, and optionally "validation" of the same and "test" of paths
or of such objects, where a label may be missing. Paths are relative to dataset.json.
"""

from pathlib import Path
from typing import Any

from pipeline.dataset.cases import Case, Split
from pipeline.dataset.description import Description, check_one_channel
from pipeline.dataset.files import check_case_name, check_there
from pipeline.errors import UserError
from pipeline.formats.dispatch import EXPECTED, files_in, stem
from pipeline.log import log

LISTS: dict[str, Split] = {"training": "train", "validation": "validation", "test": "test"}


def is_decathlon(description: Description) -> bool:
    """True where the dataset.json lists its training cases."""
    return "training" in description.content


def find(source: Path, description: Description) -> list[Case]:
    """Return the cases that are listed.

    Raises UserError where there is more than one input channel, an entry is not as it should be, a case is listed
    twice, or files are not there.
    """
    channels = description.get("modality", lambda given: isinstance(given, dict), "an object of channel: name", {})
    check_one_channel(list(channels.values()), f"{description.path}: modality")
    listed_in: dict[str, str] = {}
    cases = []
    for key, split in LISTS.items():
        entries = description.get(key, lambda given: isinstance(given, list), "a list of files", [])
        for number, entry in enumerate(entries, 1):
            case = case_of(source, entry, split, f"{description.path}: entry {number} of {key}")
            if case.name in listed_in:
                raise UserError(
                    f"{description.path}: the case {case.name!r} is listed twice, in {listed_in[case.name]} and in "
                    f"{key}; list each once, and give no two files the same name."
                )
            listed_in[case.name] = key
            cases.append(case)
    if not cases:
        raise UserError(f"{description.path}: training is empty; list a case there, or remove the key.")
    check_there([(str(description.path), path) for case in cases for path in case.files().values()])
    warn_of_unlisted(source, set(listed_in))
    return description.annotate(cases, ())


def case_of(source: Path, entry: Any, split: Split, where: str) -> Case:
    """Return the case of an entry of a list."""
    files = {"image": entry} if isinstance(entry, str) else entry
    image, label = (files.get(role) for role in ("image", "label")) if isinstance(files, dict) else (None, None)
    if not isinstance(image, str) or not isinstance(label, str | None):
        raise UserError(f'{where} is {entry!r:.80}; expected {{"image": path, "label": path}} with one path each.')
    if label is None and split != "test":
        raise UserError(f'{where} ({image}) has no "label"; add it, or list the case under "test".')
    name = stem(Path(image))
    if name is None:
        raise UserError(f"{where}: {image} is of no known format; expected {EXPECTED}.")
    check_case_name(name, where)
    return Case(name, source / image, None if label is None else source / label, name, split)


def warn_of_unlisted(source: Path, listed: set[str]) -> None:
    """Log CTs in the usual folders that no list names."""
    for folder in (source / "imagesTr", source / "imagesTs"):
        unlisted = sorted(set(files_in(folder)) - listed) if folder.is_dir() else []
        if unlisted:
            log.warning("%s: left out, as dataset.json does not list them: %s", folder, ", ".join(unlisted))
