"""TensorBoard's event files: what of them stands when a run goes on.

TensorBoard itself can be told to hide what came after a step, but it does so for all curves alike, only for scalars
and images where files are read with its own `EventAccumulator`, and only where files sort by name as they were written,
which clocks of two machines do not promise. Here what does not stand is taken out of the files.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

from pipeline.files import replacing

PATTERN = "events.out.tfevents.*"
LENGTH_BYTES, CHECKSUM_BYTES = 8, 4  # before an event its length and the length's checksum, behind it its own checksum


class Record(NamedTuple):
    """An event, and the bytes that hold it in its file."""

    event: Event
    stored: bytes


def forget(folder: Path, last_step_of: Callable[[str], int]) -> None:
    """Take out of a run's event files what came after the last step that stands, and what is torn at their ends.

    last_step_of: tag -> last step that stands, -1 for none. Marks of earlier resumptions go too. Files stay where they
    are, as a TensorBoard that is open stops where one is gone, but where the next one's name, which begins with the
    time, would not come last: then they get numbers for names. Whatever interrupts this, the next call does the rest.
    """
    paths = sorted(folder.glob(PATTERN))
    for path in paths:
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.writelines(stored for event, stored in records(path) if stands(event, last_step_of))
    if paths and paths[-1].name >= PATTERN.replace("*", f"{int(time.time()):010d}"):
        for number, path in enumerate(paths):
            path.rename(path.with_name(PATTERN.replace("*", f"{number:010d}")))


def stands(event: Event, last_step_of: Callable[[str], int]) -> bool:
    """Say whether an event is one to keep: a file's first one, or values of steps that stand."""
    if not event.HasField("summary"):
        return event.HasField("file_version")
    return all(event.step <= last_step_of(value.tag) for value in event.summary.value)


def records(path: Path) -> Iterator[Record]:
    """Yield the events of a file in their order, up to the first that is torn, as where a run was killed."""
    left = path.stat().st_size
    with path.open("rb") as file:
        while len(head := file.read(LENGTH_BYTES + CHECKSUM_BYTES)) == LENGTH_BYTES + CHECKSUM_BYTES:
            length = int.from_bytes(head[:LENGTH_BYTES], "little")
            left -= len(head) + length + CHECKSUM_BYTES
            if length == 0 or left < 0:  # no event is empty; zeros are what a power cut leaves
                return
            rest = file.read(length + CHECKSUM_BYTES)
            try:
                yield Record(Event.FromString(rest[:length]), head + rest)
            except DecodeError:
                return
