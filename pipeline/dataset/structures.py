"""The layout of a folder for each case with ct.nii.gz and segmentations/NAME.nii.gz, one mask a structure.

It is TotalSegmentator's, whose meta.csv (image_id;split;...) is read where it is there: `split` is train, val or test,
and the columns patient and group may be added. An optional dataset.json goes before it, see `description`.

The names of the classes choose the masks. A name with * or ? stands for all masks that fit, as one class: "rib_*". A
case that lacks the mask of a structure is one where the structure is absent.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from pipeline.dataset.cases import Case
from pipeline.dataset.description import Description
from pipeline.dataset.masks import class_of
from pipeline.dataset.rows import check_once, read_rows
from pipeline.errors import UserError
from pipeline.formats.dispatch import SUFFIXES, files_in
from pipeline.labels import MOST_CLASSES, Labels
from pipeline.log import log

CT, MASKS, META = "ct", "segmentations", "meta.csv"
Masks = Mapping[str, Path]


def is_structures(source: Path) -> bool:
    """True for a folder with at least one folder that has a CT of the expected name."""
    return any(ct_of(folder) for folder in folders_in(source))


def find(source: Path, description: Description, labels: Labels) -> list[Case]:
    """Return the cases, each with the masks of the classes that are wanted; at least one.

    Raises UserError where no case has a mask of a class, or a mask fits two classes.
    """
    folders = {folder.name: folder for folder in folders_in(source) if ct_of(folder)}
    masks_of = {name: masks_in(folder) for name, folder in folders.items()}
    wanted = wanted_structures(masks_of.values(), labels, source)
    cases = []
    for name, folder in folders.items():
        masks, image = masks_of[name], ct_of(folder)
        assert image is not None
        label = None if masks is None else {each: path for each, path in masks.items() if each in wanted}
        cases.append(Case(name, image, label, name, "train"))
    warn_of_absent(cases, wanted, labels)
    return description.annotate(with_meta(cases, source), ("test", "validation"))


def read_labels(source: Path, description: Description) -> Labels:
    """Return a class for each structure that any case has a mask of, by name, with the values 1 to n.

    Raises UserError where there is none, or there are more than a label map can hold.
    """
    found = sorted({name for folder in folders_in(source) if ct_of(folder) for name in masks_in(folder) or ()})
    if not 1 <= len(found) <= MOST_CLASSES:
        raise UserError(
            f"{source}: {len(found)} structures have a mask in {MASKS}; 1 to {MOST_CLASSES} can be classes: name those "
            "that you want under `labels`, such as labels: {liver: 1}."
        )
    return description.build_labels({name: (value,) for value, name in enumerate(found, 1)})


def folders_in(source: Path) -> list[Path]:
    """Return the folders of a folder, sorted, but for hidden ones."""
    return sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))


def ct_of(folder: Path) -> Path | None:
    """Return the CT of a case's folder, None where it has none. Raises UserError where it has two."""
    found = [folder / f"{CT}{suffix}" for suffix in SUFFIXES if (folder / f"{CT}{suffix}").is_file()]
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1]} are two files for the case {folder.name!r}; remove one of them.")
    return found[0] if found else None


def masks_in(folder: Path) -> Masks | None:
    """Return the masks of a case's folder by structure; None where it is not annotated."""
    return files_in(folder / MASKS) if (folder / MASKS).is_dir() else None


def wanted_structures(found: Iterable[Masks | None], labels: Labels, source: Path) -> dict[str, str]:
    """Return the class of each structure that is wanted.

    Raises UserError where there is no mask at all, where a class has none in any case, with names like it, and where a
    mask fits two classes.
    """
    structures = sorted({name for masks in found for name in masks or ()})
    if not structures:
        raise UserError(f"{source}: no case has a mask in {MASKS}/; put there one for each class named under `labels`.")
    classes = {name: class_of(name, labels.names) for name in structures}
    wanted = {name: label for name, label in classes.items() if label is not None}
    for label in labels.names:
        if label not in wanted.values():
            similar = get_close_matches(label, structures, n=3) or get_close_matches(label.lower(), structures, n=3)
            hint = (
                f"did you mean {' or '.join(similar)}?"
                if similar
                else f"expected names such as {', '.join(structures[:5])}."
            )
            raise UserError(f"labels.{label}: no case of {source} has a mask {MASKS}/{label}; {hint}")
    return wanted


def warn_of_absent(cases: Iterable[Case], wanted: Mapping[str, str], labels: Labels) -> None:
    """Log how many annotated cases have no mask of a class: it is absent there."""
    annotated = [case.label for case in cases if isinstance(case.label, Mapping)]
    having = Counter(label for masks in annotated for label in {wanted[name] for name in masks})
    lacking = {label: len(annotated) - having[label] for label in labels.names if having[label] < len(annotated)}
    if lacking:
        listed = ", ".join(f"{label} ({count})" for label, count in lacking.items())
        log.warning(
            "of %d cases, so many have no mask of a class, which is taken as absent: %s", len(annotated), listed
        )


def with_meta(cases: list[Case], source: Path) -> list[Case]:
    """Return cases with split, patient and group of meta.csv, where it is there; it may list cases that are not."""
    path = source / META
    if not path.exists():
        return cases
    table = read_rows(path, ("image_id",), ("split", "patient", "group"))
    check_once((f"the case {row.cells['image_id']!r}", row) for row in table.rows)
    rows = {row.cells["image_id"]: row for row in table.rows}
    unlisted = [case.name for case in cases if case.name not in rows]
    if unlisted:
        log.warning(
            "%s: %d cases are not listed and are for training: %s", path, len(unlisted), ", ".join(unlisted[:8])
        )
    return [
        replace(
            case,
            split=rows[case.name].split(),
            patient=rows[case.name].cells.get("patient") or case.patient,
            group=rows[case.name].cells.get("group", ""),
        )
        if case.name in rows
        else case
        for case in cases
    ]
