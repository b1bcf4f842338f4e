"""Errors that a user sees, and the exit code each of them ends a command with."""

from enum import IntEnum


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
    """The command was asked to stop (SIGINT, SIGTERM) and has saved its state: exit code 75."""
