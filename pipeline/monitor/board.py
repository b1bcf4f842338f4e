"""What TensorBoard shows of a run."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import custom_scalars, histogram, text

from pipeline.files import flush
from pipeline.log import log
from pipeline.monitor.curves import PAGES
from pipeline.monitor.events import PATTERN, forget

FLUSH_EVERY_S = 10  # torch's own 120 s would hide the first minutes of a run from who watches it
RGB = 3
BINS = 30  # of a histogram
# What tags begin with, up to the first "/".
AT_START = ("config", "data", CONFIG_SUMMARY_TAG)  # written by every attempt, for the whole run
OF_VALIDATIONS = ("dice", "overlay", "cases", "findings_of_validations")


class Board:
    """Scalars, text and images of one run under one folder, on pages (see `curves.PAGES`).

    after_step: where a resumed run goes on. What an earlier attempt wrote beyond it is taken out, so that curves
    continue without a zig-zag; 0 takes all out of an attempt that ended before it saved a state. after_validation: the
    last validation that stands, where that of the saved step is made again. about: texts (Markdown) by name, of
    "config" and "data", that say what the run is.
    """

    def __init__(
        self, folder: Path, after_step: int = 0, after_validation: int | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        last_validation = after_step if after_validation is None else after_validation
        last = dict.fromkeys(AT_START, -1) | dict.fromkeys(OF_VALIDATIONS, last_validation)
        if after_step and not any(folder.glob(PATTERN)):
            log.warning("%s: the curves of the run so far are gone; TensorBoard shows it from here on", folder)
        forget(folder, lambda tag: last.get(tag.partition("/")[0], after_step))
        self.folder = folder
        self.writer = FileWriter(str(folder), flush_secs=FLUSH_EVERY_S)
        # A TensorBoard that is open remembers what is no longer in the files: this tells it to forget that, too.
        self.writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), after_step + 1)
        layout = {
            page: {title: ["Multiline", [curves]] for title, curves in charts.items()} for page, charts in PAGES.items()
        }
        self.writer.add_summary(custom_scalars(layout), 0)
        for name, words in (about or {}).items():
            self.text(name, words, 0)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Show named numbers of a step."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self.writer.add_summary(Summary(value=points), step)

    def overlay(self, name: str, png: bytes, step: int) -> None:
        """Show a picture of a case, an RGB PNG."""
        width, height = Image.open(BytesIO(png)).size
        image = Summary.Image(width=width, height=height, colorspace=RGB, encoded_image_string=png)
        self.writer.add_summary(Summary(value=[Summary.Value(tag=f"overlay/{name}", image=image)]), step)

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Show how numbers (at least one) are spread."""
        self.writer.add_summary(histogram(name, np.asarray(values), bins=BINS), step)

    def text(self, name: str, words: str, step: int) -> None:
        """Show Markdown."""
        self.writer.add_summary(text(name, words), step)

    def flush(self) -> None:
        """Put on disk what is still in memory. Raises OSError where the disk refuses it."""
        self.writer.flush()
        for path in self.folder.glob(PATTERN):
            flush(path)

    def close(self) -> None:
        """Write out what is still in memory, and end."""
        self.writer.close()
