"""Who a run belongs to: the process that came last. An older one, such as a copy of a job that was thought dead, ends.

Slurm starts a job again where it lost sight of a node, whose processes may live on: two copies then write one folder.
"""

import os
import platform
import time
import uuid
from pathlib import Path

from pipeline.errors import Superseded, UserError
from pipeline.files import has_ended, process_space, read_json, started, write_json

FILE = "owner.json"


class Owner:
    """This process's claim on a run's folder, which takes it from any other."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.token = uuid.uuid4().hex
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        here = {"host": platform.node(), "processes": process_space(), "process": os.getpid()}
        here["started"] = started(os.getpid())
        write_json(self.path, {"token": self.token, **here, "since": since})

    def check(self) -> None:
        """Raise Superseded where the run belongs to another process now, or its folder was moved away."""
        try:
            found = read_json(self.path)
        except UserError:
            found = {}
        if found.get("token") != self.token:
            by = f"process {found['process']} on {found['host']} since {found['since']}" if found else "nobody"
            raise Superseded(f"{self.path.parent} is taken over by {by}; this process ends and writes nothing more")


def is_alive(folder: Path) -> bool | None:
    """Return whether the process that has a run is still there; None where that is not known, as on another machine."""
    try:
        found = read_json(folder / FILE)
        if found["processes"] != process_space():
            return None
        process = int(found["process"])
        return not has_ended(process) and found.get("started") in (None, started(process))
    except (UserError, KeyError, TypeError, ValueError):
        return None
