"""The training that `bench/kill.py` kills: its command, what an attempt is at, and whether two runs ended alike."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator

from pipeline.files import TEMPORARY_PREFIX, hash_file, read_json
from pipeline.log import listed
from pipeline.monitor.curves import column_of
from pipeline.monitor.symptoms.data import STARVED
from pipeline.monitor.table import read_rows

ROOT = Path(__file__).resolve().parents[1]
STEPS, VALIDATE_EVERY, SAVE_EVERY = 100, 25, 5  # so that a kill may come between a state and the validation of its step
SETTINGS = (
    "prepare.spacing_mm=[8, 8, 8]", "prepare.workers=0", "sample.patch_vox=[16, 16, 16]", "sample.batch=2",
    "net.options={channels: [4, 8], decoder_convolutions: 1}", "loss.name=dice_topk", "infer.overlap=0.25",
    "infer.mirror=[]", "infer.keep_largest=[]", f"train.steps={STEPS}", "train.lr=2e-2", "train.average=0.9",
    "train.threads=1", f"train.validate_every_steps={VALIDATE_EVERY}", f"train.save_every_steps={SAVE_EVERY}",
    "train.log_every_steps=1",
)  # fmt: skip
# Differs every time; the number of findings as one of them, STARVED, is about waiting for data.
CLOCK = {
    "patches_per_second", "wait_share", "memory_bytes", "memory_gib", "findings", "wait_s", "step_s", "since_start",
}  # fmt: skip


class Place(StrEnum):
    """What a training is at."""

    START = "start"
    STEP = "step"
    SAVING = "saving"
    MODEL = "model"
    VALIDATION = "validation"
    END = "after the end"


def command(stage: str, work: Path, *overrides: str) -> list[str]:
    """Return the words that run a stage of this training in a work folder."""
    script = ROOT / "scripts" / f"{stage}.py"
    return [sys.executable, str(script), str(ROOT / "configs" / "head_neck.yaml"), f"work={work}", *SETTINGS,
            f"data.source={ROOT / 'examples' / 'head_neck'}", *overrides]  # fmt: skip


def run_folder(work: Path) -> Path:
    return work / "train" / "fold0"


@dataclass(frozen=True)
class Attempt:
    """One process of a run. logged_before: bytes that earlier ones have left in the log."""

    process: subprocess.Popen[bytes]
    work: Path
    logged_before: int

    @classmethod
    def start(cls, work: Path, *overrides: str) -> "Attempt":
        """Begin a run, or go on with it, in a session of its own."""
        log = log_file(work)
        before = log.stat().st_size if log.exists() else 0
        with (work / "said.txt").open("ab") as said:
            process = subprocess.Popen(
                command("train", work, *overrides), stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True,
            )  # fmt: skip
        return cls(process, work, before)

    def logged(self) -> str:
        """Return what this attempt has written to the log."""
        log = log_file(self.work)
        if not log.exists():
            return ""
        with log.open("rb") as file:
            file.seek(self.logged_before)
            return file.read().decode(errors="replace")

    def temporaries(self) -> list[str]:
        """Return names of what this attempt is writing at this moment."""
        found = []
        for folder in (run_folder(self.work), run_folder(self.work) / "state"):
            try:
                found += [name for name in os.listdir(folder) if name.startswith(TEMPORARY_PREFIX)]
            except FileNotFoundError:
                continue
        return [name for name in found if f"-{self.process.pid}-" in name]

    def writes_model(self) -> bool:
        """Say whether this attempt is writing the model: the validation is written down, and no state knows of it."""
        return any(name.endswith("-model") for name in self.temporaries())

    def last_step(self) -> int | None:
        """Return the last step that this attempt has finished, None as long as there is none."""
        steps = re.findall(rf"step (\d+)/{STEPS}:", self.logged())
        return int(steps[-1]) if steps else None

    def place(self) -> Place:
        """Return what the attempt is at."""
        if (run_folder(self.work) / "done.json").exists():
            return Place.END
        logged, last = self.logged(), self.last_step()
        continued = re.search(r"continuing after step (\d+)", logged)
        if last is None and continued is None:
            return Place.START
        if self.temporaries():
            return Place.MODEL if self.writes_model() else Place.SAVING
        began_at = int(continued[1]) if continued else 0
        last = began_at if last is None else last
        if last % VALIDATE_EVERY or f"step {last}: validation" in logged:
            return Place.STEP
        validated = last == began_at and progress_of(self.work, last)["validated"] == last
        return Place.STEP if validated else Place.VALIDATION

    def longest_operation_s(self) -> float:
        """Return the seconds that the run gives as those of its longest operation; 1, where all are shorter."""
        notice = run_folder(self.work) / "notice.json"
        return max(1.0, read_json(notice)["seconds"]) if notice.exists() else 1.0


def log_file(work: Path) -> Path:
    return work / "log" / "train.log"


def newest_state(work: Path) -> int:
    """Return the step of the newest state, 0 where none is saved."""
    return max((int(path.name[5:]) for path in (run_folder(work) / "state").glob("step-*")), default=0)


def progress_of(work: Path, step: int) -> dict[str, Any]:
    """Return how far the run was when a state was saved."""
    progress: dict[str, Any] = state_of(work, step)["facts"]["progress"]
    return progress


def state_of(work: Path, step: int) -> dict[str, Any]:
    """Return what is said of a state."""
    state: dict[str, Any] = read_json(run_folder(work) / "state" / f"step-{step:09d}" / "state.json")
    return state


def differences(work: Path, alone: Path) -> Iterator[str]:
    """Yield in what a finished run is not the one that was left alone."""
    ours, theirs = run_folder(work), run_folder(alone)
    for name in (f"state/step-{STEPS:09d}/tensors.safetensors", "model/weights.safetensors", "model/model.json"):
        if hash_file(ours / name) != hash_file(theirs / name):
            yield f"{name} has other bits"
    if read_json(ours / "done.json") != read_json(theirs / "done.json"):
        yield f"done.json says {read_json(ours / 'done.json')}, expected {read_json(theirs / 'done.json')}"
    facts = [state_of(folder, STEPS)["facts"] for folder in (work, alone)]
    for each in facts:
        del each["progress"]["seconds"]
    if facts[0] != facts[1]:
        yield "state.json has other facts"
    for name, read in TABLES.items():
        if without_clock(read(ours / name)) != without_clock(read(theirs / name)):
            yield f"{name} has other rows"
    points, expected = read_curves(ours), read_curves(theirs)
    if others := [tag for tag in sorted(points | expected) if points.get(tag) != expected.get(tag)]:
        yield f"the event files have other points of {listed(others)}"
    yield from (f"{path} is left over" for path in sorted(work.rglob(f"{TEMPORARY_PREFIX}*")))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file that has one a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_findings(path: Path) -> list[dict[str, Any]]:
    """Return what was found, but for the finding that rests on measured times."""
    return [finding for finding in read_lines(path) if finding["name"] != STARVED]


TABLES: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "train.csv": read_rows, "vitals.jsonl": read_lines, "checkups.jsonl": read_lines, "findings.jsonl": read_findings,
}  # fmt: skip


def read_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of every point that TensorBoard shows of a run, by tag, without what differs every time."""
    events = EventAccumulator(str(run), STORE_EVERYTHING_SIZE_GUIDANCE).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if column_of(tag) not in CLOCK]
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in tags}


def without_clock(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without what differs every time."""
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]
