"""To which config a run belongs: the same one continues, another one is refused."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config.config import Config
from pipeline.config.text import in_line
from pipeline.errors import UserError
from pipeline.files import hash_json, read_json, remove_leftovers, write_json
from pipeline.labels import Labels
from pipeline.log import listed, log
from pipeline.model import is_whole
from pipeline.store.reader import PreparedCase
from pipeline.training.checkpoint import state_folders
from pipeline.work import DONE, MODEL, RUN, STATE

# Keys that cannot change what is learnt, only where and how it is carried out.
FREE_KEYS = {
    "train": {
        "device", "threads", "deterministic", "compile", "save_every_steps", "save_every_minutes",
        "log_every_steps", "on_sickness", "resume", "restart",
    },
    "sample": {"workers"},
    "net": {"checkpoint"},
}  # fmt: skip
SECTIONS = ("seed", "labels", "intensity", "sample", "augment", "head", "loss", "net", "train")


def training_keys(
    config: Config, training: Sequence[PreparedCase], validation: Sequence[PreparedCase], labels: Labels
) -> dict[str, Any]:
    """Return everything that decides what is learnt, by dotted key; JSON values."""
    whole = config.model_dump(mode="json", include=set(SECTIONS))
    whole["labels"] = json.loads(json.dumps(labels.to_json()))
    whole["loss"]["name"] = config.loss.name_under(config.head.kind)  # what `auto` means may change with the version
    keys: dict[str, Any] = {}
    for section in SECTIONS:
        value = whole[section]
        if isinstance(value, dict) and section != "labels":
            keys |= {f"{section}.{k}": v for k, v in value.items() if k not in FREE_KEYS.get(section, set())}
        else:
            keys[section] = value
    by_name = {what: {case.name: hash_json(dict(case.hashes)) for case in cases} for what, cases in
               (("training cases", training), ("validation cases", validation))}  # fmt: skip
    return keys | by_name


def goes_on(folder: Path, *, restart: bool) -> bool:
    """True where `claim` will join a run that has left a state: nothing that it began with is needed any more."""
    return bool(state_folders(folder / STATE)) and not (restart and not begun_by_this_job(folder / RUN))


def claim(
    folder: Path, keys: dict[str, Any], *, resume: bool, restart: bool, validation: dict[str, Any] | None = None
) -> bool:
    """Make `folder` the run of these keys, or join the one that stands there. Return True where that one is done.

    validation: how held-out cases are predicted, JSON values; kept for `validation_of`.

    A run that ended before its first state and model left nothing to protect: any config may claim its folder. restart
    moves what is there aside, but for what an earlier attempt of the same job has begun: a scheduler that puts a job
    back into the queue repeats its command.
    Raises UserError with the keys that differ where the folder holds a run of another config.
    """
    for place in (folder, folder / STATE, *state_folders(folder / STATE)):
        remove_leftovers(place)
    record = folder / RUN
    if restart and folder.exists() and not begun_by_this_job(record):
        aside = folder.with_name(f"{folder.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
        folder.rename(aside)
        log.info("train.restart: the run that was there is now %s", aside)
    if not record.exists() and state_folders(folder / STATE):
        raise UserError(
            f"{record}: not found, though states are there; it tells to which config they belong. Restore it, or move "
            "the run aside with train.restart=true."
        )
    if not record.exists() or not holds_anything(folder):
        write_json(record, {"key": hash_json(keys), "keys": keys, "job": this_job(), "validation": validation or {}})
        return False
    before = keys_of(record)
    differing = [key for key in before | keys if before.get(key) != keys.get(key)]
    if differing:
        shown = "; ".join(f"{key}: {change(before.get(key), keys.get(key))}" for key in differing)
        raise UserError(
            f"{folder} holds a run of another config ({shown}). Give a folder of its own with work=, or move the old "
            "run aside with train.restart=true."
        )
    done = (folder / DONE).exists() and is_whole(folder / MODEL)  # a lost or torn model is made again
    if not resume and not done:
        raise UserError(
            f"{folder} holds an unfinished run and train.resume is false; use train.restart=true to begin anew."
        )
    return done


def keys_of(record: Path) -> dict[str, Any]:
    """Return the keys that a run began with. Raises UserError where `run.json` does not hold them."""
    found = read_json(record)
    keys: object = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, dict):
        raise UserError(
            f"{record}: does not hold the keys that the run began with; restore it, or move the run aside with "
            "train.restart=true."
        )
    return keys


def validation_of(folder: Path) -> dict[str, Any]:
    """Return how the held-out cases of a run are predicted, as it began with; empty where it did not say."""
    found: dict[str, Any] = read_json(folder / RUN).get("validation", {})
    return found


def this_job() -> dict[str, Any] | None:
    """Return the Slurm job that this process belongs to, and how often it was put back into the queue."""
    number = os.environ.get("SLURM_JOB_ID")
    return {"slurm": number, "restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0)} if number else None


def begun_by_this_job(record: Path) -> bool:
    """True where an earlier attempt of this job has begun the run; False for the same attempt, as by hand in salloc."""
    now = this_job()
    found = read_json(record) if now and record.exists() else None
    before = found.get("job") if isinstance(found, dict) else None
    if now is None or before is None:
        return False
    return bool(before["slurm"] == now["slurm"] and before["restarts"] < now["restarts"])


def holds_anything(folder: Path) -> bool:
    """True where a run has left a state, a model or its end."""
    return bool(state_folders(folder / STATE)) or any((folder / name).exists() for name in (MODEL, DONE))


def change(before: Any, now: Any) -> str:
    """Return in words how a value differs from what it was; of mappings, such as cases, only what does."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f"{shorten(before)} then, {shorten(now)} now"
    sorts = {
        "no more": [name for name in before if name not in now],
        "new": [name for name in now if name not in before],
        "changed": [name for name in before if name in now and before[name] != now[name]],
    }
    return ", ".join(f"{what}: {listed(names)}" for what, names in sorts.items() if names)


def shorten(value: Any) -> str:
    """Return a value as a config has it, cut to what fits a message."""
    text = in_line(value)
    return text if len(text) <= 60 else text[:57] + "..."
