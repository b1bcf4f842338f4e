"""Say what is wrong before hours are spent on it; nothing is written but the log."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.config import Config
from pipeline.errors import ExitCode, UserError
from pipeline.stages import doctor_data, doctor_net, doctor_run

TOPICS = ("data", "net", "run")


def run(config: Config, topic: str, verify: bool = False, folders: Sequence[Path] = ()) -> ExitCode:
    """Look at the data set (with `verify` at the store, too), at the network of a config, or at trainings.

    folders: work folders of the trainings, that of the config by default. Raises UserError where the topic is not
    known, and as each topic says.
    """
    if verify and topic != "data":
        raise UserError(f"--verify: belongs to the topic data, not to {topic}; leave it out.")
    if topic == "data":
        return doctor_data.run(config, verify)
    if topic == "net":
        return doctor_net.run(config)
    if topic == "run":
        return doctor_run.run(folders or [config.work])
    raise UserError(f"doctor: found {topic!r}, expected one of {', '.join(TOPICS)}.")
