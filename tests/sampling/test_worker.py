"""One worker process: what is said of it when it dies or hangs, and that it ends with its parent."""

import multiprocessing
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.sampling import worker
from pipeline.sampling.batch import make_batch
from pipeline.sampling.index import build_index
from pipeline.sampling.worker import Worker, WorkerDied
from pipeline.store.reader import PreparedCase
from pipeline.volume.intensity import Intensity

SAMPLE = SampleSection(patch_vox=(12, 10, 8), batch=2)
ROOT = Path(__file__).parents[2]
AGES_S = 60.0


@pytest.fixture
def hanging(store, sided):
    """A worker that hangs at a case whose image has become a pipe that nobody writes to."""
    index = build_index([PreparedCase.open(store / "a")], Head("softmax", sided))
    (image,) = (store / "a").glob("image.*")
    image.unlink()
    os.mkfifo(image)
    started = Worker("worker 1 of 1", partial(make_batch, index, SAMPLE, AugmentSection(), Intensity((0, 1)), 7), [4])
    deadline = time.monotonic() + AGES_S
    while started.in_hand is None and time.monotonic() < deadline:
        time.sleep(0.01)
    yield started
    started.stop()


def test_the_death_of_a_worker_names_the_patch_that_it_had_in_hand(hanging):
    hanging.process.kill()
    with pytest.raises(WorkerDied) as raised:
        hanging.take()
    pid = hanging.process.pid
    assert str(raised.value) == (
        f"worker 1 of 1 (process {pid}) was killed by SIGKILL while it made slot 0 of step 4 from case a"
    )
    assert list(hanging.steps) == [4]


def test_a_worker_that_hangs_is_ended_and_names_the_patch_that_it_had_in_hand(hanging, monkeypatch):
    monkeypatch.setattr(worker, "LONGEST_SILENCE_S", 0.5)
    with pytest.raises(WorkerDied, match=r"was silent for .* while it made slot 0 of step 4 from case a"):
        hanging.take()
    hanging.process.join(AGES_S)
    assert not hanging.process.is_alive()


SCRIPT = """
import os, signal, sys
from pathlib import Path
from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.sampling.index import build_index
from pipeline.sampling.loader import batches
from pipeline.store.reader import PreparedCase
from pipeline.volume.intensity import Intensity

labels = Labels(values={"left": 1, "right": 2, "middle": 3})
index = build_index([PreparedCase.open(Path(sys.argv[1]) / name) for name in ("a", "b")], Head("softmax", labels))
sample = SampleSection(patch_vox=(12, 10, 8), batch=2)
items = batches(index, sample, AugmentSection(), Intensity((0, 1)), 7, 0, 1000, 2)
next(items)
print("made", flush=True)
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [("os.kill(os.getpid(), signal.SIGKILL)", -9), ("sys.exit(3)", 3), ("raise KeyboardInterrupt", -2)],
)
def test_workers_end_with_their_parent_however_it_ends(store, ending, code):
    # The workers hold the pipe of stdout as well: its end comes when the last of them is gone.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + ending, store], stdout=subprocess.PIPE, cwd=ROOT, timeout=AGES_S, check=False
    )
    assert (done.stdout, done.returncode) == (b"made\n", code)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux which files a process uses")
def test_no_process_uses_shared_memory(store, sided):
    index = build_index([PreparedCase.open(store / "a")], Head("softmax", sided))
    before = set(multiprocessing.active_children())
    maker = Worker("worker 1 of 1", partial(make_batch, index, SAMPLE, AugmentSection(), Intensity((0, 1)), 7), [0, 1])
    try:
        maker.take()
        (process,) = set(multiprocessing.active_children()) - before
        for pid in (os.getpid(), process.pid):
            mapped = Path(f"/proc/{pid}/maps").read_text()
            opened = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
            assert "image." in mapped or pid == os.getpid()
            assert not [name for name in (*mapped.splitlines(), *opened) if "/dev/shm" in name or "memfd:" in name]
    finally:
        maker.stop()
