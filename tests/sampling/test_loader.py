import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.sampling.index import build_index
from pipeline.sampling.loader import batches, make_batch
from pipeline.store.reader import PreparedCase
from pipeline.store.writer import write_case
from pipeline.volume.grid import Grid
from pipeline.volume.intensity import Intensity
from pipeline.volume.volume import Volume

SAMPLE = SampleSection(patch_vox=(12, 10, 8), batch=3)
AUGMENT = AugmentSection(rotation_probability=0.5, scale_probability=0.5, noise_probability=0.5, mirror=("x", "y"))
INTENSITY = Intensity((-200, 400), mean=0.4, std=0.2)
ROOT = Path(__file__).parents[2]
SHAPE = (20, 16, 12)
SEED = 11


@pytest.fixture
def store(tmp_path):
    """Two prepared cases on disk with all three classes."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        hu = random.integers(-1000, 1000, SHAPE).astype(np.int16)
        encoded = random.choice(4, p=(0.97, 0.01, 0.01, 0.01), size=SHAPE).astype(np.uint8)
        grid = Grid(SHAPE, np.diag((1, 1, 3, 1)))
        made_from = {"key": "", "source_grid": grid, "crop": ((0, 0, 0), SHAPE), "put_back": {}, "sources": {}}
        write_case(tmp_path / name, name, Volume(hu, grid), encoded, **made_from)
    return tmp_path


@pytest.fixture
def index(store, sided):
    cases = [PreparedCase.open(store / name) for name in ("a", "b")]
    return build_index(cases, Head("softmax", sided), AUGMENT.mirror)


def load(index, first, last, workers):
    return list(batches(index, SAMPLE, AUGMENT, INTENSITY, SEED, first, last, workers))


def same_bits(ours, theirs):
    return (
        ours.draws == theirs.draws and torch.equal(ours.image, theirs.image) and torch.equal(ours.labels, theirs.labels)
    )


def test_a_batch_has_the_promised_shapes_types_and_positives(index):
    batch = make_batch(index, SAMPLE, AUGMENT, INTENSITY, SEED, 0)
    assert (batch.image.shape, batch.image.dtype) == ((3, 1, 12, 10, 8), torch.float32)
    assert (batch.labels.shape, batch.labels.dtype) == ((3, 12, 10, 8), torch.uint8)
    positive = [batch.labels[slot][drawn.place_vox] == drawn.label for slot, drawn in enumerate(batch.draws)]
    assert positive[:2] == [True, True]
    assert batch.draws[2].label is None


@pytest.mark.parametrize("workers", [1, 2])
def test_bits_are_the_same_with_any_number_of_workers(index, workers):
    alone = load(index, 0, 5, 0)
    together = load(index, 0, 5, workers)
    assert all(same_bits(a, b) for a, b in zip(alone, together, strict=True))


def test_bits_are_the_same_from_any_first_step_and_differ_between_steps(index):
    whole = load(index, 0, 6, 0)
    later = load(index, 4, 6, 0)
    assert all(same_bits(a, b) for a, b in zip(whole[4:], later, strict=True))
    assert not any(same_bits(a, b) for a, b in pairwise(whole))
    assert load(index, 6, 6, 0) == []


def test_loading_takes_no_number_from_the_training(index):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    load(index, 0, 2, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_case_that_cannot_be_read_gives_its_sentence(index, store, workers):
    shutil.rmtree(store)
    with pytest.raises(
        UserError, match=r"npy: cannot be read any more \(No such file or directory\); .* run prepare again\.$"
    ):
        load(index, 0, 3, workers)


def test_a_worker_asked_to_end_goes_on_for_its_grace_and_then_ends():
    script = """if True:
        import time
        from pipeline.sampling import loader
        loader.GRACE_S = 1
        loader.start_worker(0)
        print("up", flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as worker:
        assert worker.stdout.readline() == b"up\n"
        worker.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.3)
        assert worker.wait(20) == -signal.SIGALRM


def test_a_worker_outlives_an_interrupt_and_its_death_is_named(index):
    before = set(multiprocessing.active_children())
    items = batches(index, SAMPLE, AUGMENT, INTENSITY, SEED, 0, 1000, 1)
    next(items)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGINT)
    os.kill(worker.pid, signal.SIGTERM)
    assert [next(items).draws[0].key[1] for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"sample\.workers: one of 1 loader processes died .* sample\.workers=0"):
        list(items)
