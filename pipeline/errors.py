"""Errors that a user sees, what the machine refuses in words, and the exit codes that commands end with."""

import errno
import os
import re
import signal
from enum import IntEnum

ASKED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)  # signals that ask a command to end
FULL = "free some space, or choose another disk with work=FOLDER, and run the same command again"
FORBIDDEN = "change its permissions, or choose another place, such as work=FOLDER"
IN_THE_WAY = "a file stands where a folder is expected: move it, or choose another path"
CURES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: FORBIDDEN,
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.ENOENT: "check the path",
    errno.ENOTDIR: IN_THE_WAY,
    errno.EEXIST: IN_THE_WAY,
    errno.ENAMETOOLONG: "give the case or the folder a shorter name",
}


class ExitCode(IntEnum):
    """What a finished command tells the shell or the cluster that started it."""

    DONE = 0
    SOME_FAILED = 1
    USER_ERROR = 2
    INTERNAL_ERROR = 3
    INTERRUPTED = 75  # EX_TEMPFAIL: state is saved, the same command continues


class UserError(Exception):
    """Something the user can mend.

    The message is a sentence with the file or key, what was found, what was expected and what to do.
    Inside a unit it fails that unit and the others go on; elsewhere it ends the command with exit code 2.
    """


class Interrupted(Exception):
    """The command was asked to stop (one of ASKED_BY) and has saved its state: exit code 75."""


class Superseded(Interrupted):
    """Another process has taken the run over; this one must write nothing more."""


def explain(error: BaseException) -> str | None:
    """Return a sentence for a failure that the machine caused (disk, permission, memory), None for any other."""
    if isinstance(error, MemoryError):
        return "not enough memory; use fewer processes (workers=1), smaller patches, or a machine with more memory"
    if isinstance(error, OSError):
        number, file = error.errno, error.filename
    else:
        number, file = _number_in(error), None
    if number is None:
        return None
    cure = CURES.get(number, "check the disk or the network drive, and run the same command again")
    return f"{file or 'writing a file'}: {os.strerror(number).lower()}; {cure}"


def _number_in(error: BaseException) -> int | None:
    """Return the number that safetensors, which raises no OSError when a disk is full, gives in its text."""
    found = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(found[1]) if found else None
