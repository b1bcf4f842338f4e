"""What case.json says of a prepared case, and whether the arrays beside it are still those that it tells of."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import hash_file, hash_json, read_json, write_json
from pipeline.log import log
from pipeline.store.layout import FACTS, READABLE_FORMATS

CHECKSUM = "checksum"  # of everything else in the file; format 1 had none
MADE_AGAIN = "run prepare, which makes this case again"
VERIFIED = "run prepare with prepare.verify=true, which makes this case again"  # else it only looks, as opening does


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write case.json. It comes last: an array that is younger was changed after it."""
    write_json(folder / FACTS, {**facts, CHECKSUM: hash_json(facts)})


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what case.json says, after a look at whether the arrays are those it tells of.

    An array that is younger than case.json is read whole and its hash compared: a copied store costs that once.
    Raises UserError where there is no case, it has another format, or one of its files was cut short or altered.
    """
    path = folder / FACTS
    if not path.exists():
        raise UserError(f"{folder}: no prepared case; run prepare.")
    facts = read_json(path)
    check_format(facts, path)
    with whole(path):
        if facts["format"] > 1:
            told = facts.pop(CHECKSUM)
            if told != hash_json(facts):
                raise ValueError("its checksum is not that of what it says")
        check_arrays(folder, facts["arrays"])
    return facts


def check_format(found: Any, path: Path) -> None:
    """Raise UserError where the contents of a JSON file of a store are of a format that cannot be read."""
    number = found.get("format") if isinstance(found, dict) else None
    if number not in READABLE_FORMATS:
        listed = " or ".join(map(str, READABLE_FORMATS))
        raise UserError(f"{path}: format {number!r}, expected {listed}; run prepare, which makes the store again.")


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turn what a JSON file that lacks something, or holds something else, raises into a sentence."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: altered since it was written ({what}); {MADE_AGAIN}.") from error


def check_arrays(folder: Path, arrays: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise UserError where an array is gone, has another size, or has another hash and is younger than case.json."""
    told_ns = (folder / FACTS).stat().st_mtime_ns
    changed_ns = []
    for file, expected in arrays.items():
        path = folder / file
        if not path.is_file():
            raise UserError(f"{path}: not found; {MADE_AGAIN}.")
        size, time_ns = path.stat().st_size, path.stat().st_mtime_ns
        if size != expected["size"]:
            raise UserError(f"{path}: {size} bytes, expected {expected['size']}: cut short or altered; {MADE_AGAIN}.")
        if time_ns > told_ns:
            log.debug("%s: younger than its case.json, reading it whole to compare its hash", path)
            check_hash(path, expected["sha256"])
            changed_ns.append(time_ns)
    if changed_ns:
        now_ns = max(time.time_ns(), *changed_ns)  # a clock may run fast where the store was copied from
        with suppress(OSError):  # a store that is not ours to write: the next opening compares again
            os.utime(folder / FACTS, ns=(now_ns, now_ns))


def check_hash(path: Path, sha256: str, cure: str = MADE_AGAIN) -> None:
    """Raise UserError where a file is not the one that has this hash."""
    found = hash_file(path)
    if found != sha256:
        raise UserError(
            f"{path}: altered since it was written (SHA-256 {found[:12]}..., expected {sha256[:12]}...); {cure}."
        )
