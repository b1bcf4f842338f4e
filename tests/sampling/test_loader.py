"""The same batches from any number of processes, none of which dies or fails in silence."""

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.sampling.batch import slots_of
from pipeline.sampling.index import build_index
from pipeline.sampling.loader import batches
from pipeline.store.reader import PreparedCase
from pipeline.volume.intensity import Intensity

SAMPLE = SampleSection(patch_vox=(12, 10, 8), batch=4)
AUGMENT = AugmentSection(rotation_probability=0.5, scale_probability=0.5, noise_probability=0.5, mirror=("x", "y"))
INTENSITY = Intensity((-200, 400), mean=0.4, std=0.2)
SEED = 11
ROOT = Path(__file__).parents[2]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture
def index(store, sided):
    return build_index([PreparedCase.open(store / name) for name in ("a", "b")], Head("softmax", sided), AUGMENT.mirror)


def stream(index, first, last, workers, **ranks):
    return batches(index, SAMPLE, AUGMENT, INTENSITY, SEED, first, last, workers, **ranks)


def load(*args, **ranks):
    return list(stream(*args, **ranks))


def same_bits(ours, theirs):
    return (
        ours.draws == theirs.draws and torch.equal(ours.image, theirs.image) and torch.equal(ours.labels, theirs.labels)
    )


def started(before):
    return sorted(set(multiprocessing.active_children()) - set(before), key=lambda process: process.pid)


# Bits


@pytest.mark.parametrize("workers", [1, 4])
def test_bits_are_the_same_with_any_number_of_workers(index, workers):
    alone = load(index, 0, 11, 0)
    together = load(index, 0, 11, workers)
    assert all(same_bits(a, b) for a, b in zip(alone, together, strict=True))


HASHED = """
import sys
from hashlib import sha256
from pathlib import Path
from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.sampling.index import build_index
from pipeline.sampling.loader import batches
from pipeline.store.reader import PreparedCase
from pipeline.volume.intensity import Intensity

index = build_index([PreparedCase.open(Path(sys.argv[1]) / "a")], Head("softmax", Labels(values={"left": 1})))
every = dict.fromkeys((key for key in AugmentSection.model_fields if key.endswith("_probability")), 1.0)
for augment in (AugmentSection(**every), AugmentSection(preset="none", scale_probability=1)):
    sample = SampleSection(patch_vox=(70, 66, 64), batch=2)
    for batch in batches(index, sample, augment, Intensity((-200, 400)), 7, 0, 2, 0):
        print(sha256(batch.image.numpy().tobytes()).hexdigest(), sha256(batch.labels.numpy().tobytes()).hexdigest())
"""


def test_bits_are_the_same_whatever_threads_numpy_has(store):
    # It reads their number when it is loaded, and has one in a worker; products of small matrices take one anyway.
    printed = [
        subprocess.run(
            [sys.executable, "-c", HASHED, store], env=os.environ | dict.fromkeys(THREADS, number), cwd=ROOT,
            stdout=subprocess.PIPE, check=True,
        ).stdout
        for number in ("1", "3")
    ]  # fmt: skip
    assert printed[0] == printed[1]
    assert len(set(printed[0].split())) == 8


def test_bits_are_the_same_from_any_first_step_and_differ_between_steps(index):
    whole = load(index, 0, 6, 0)
    later = load(index, 4, 6, 0)
    assert all(same_bits(a, b) for a, b in zip(whole[4:], later, strict=True))
    assert not any(same_bits(a, b) for a, b in pairwise(whole))


@pytest.mark.parametrize("workers", [0, 2])
def test_no_steps_give_no_batches(index, workers):
    assert load(index, 6, 6, workers) == []


def test_two_ranks_with_a_worker_each_make_the_batches_of_one(index):
    whole = load(index, 0, 3, 0)
    for rank in range(2):
        slots = list(slots_of(SAMPLE.batch, rank, 2))
        for ours, theirs in zip(load(index, 0, 3, 1, rank=rank, ranks=2), whole, strict=True):
            assert torch.equal(ours.image, theirs.image[slots]) and torch.equal(ours.labels, theirs.labels[slots])


def test_loading_takes_no_number_from_the_training(index):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    load(index, 0, 2, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


# Faults


@pytest.mark.parametrize("workers", [0, 1])
def test_a_case_that_cannot_be_read_gives_its_sentence(index, store, workers):
    shutil.rmtree(store)
    with pytest.raises(UserError, match=r"No such file or directory"):
        load(index, 0, 3, workers)


def test_a_store_that_is_altered_during_a_run_is_named(index, store):
    for labels in store.glob("*/label.*"):
        labels.write_bytes(bytes(labels.stat().st_size))  # what is promised is not there any more
    with pytest.raises(UserError, match=r"[ab]/label\.raw: .*prepare\.verify=true"):
        load(index, 0, 30, 1)


def test_any_other_error_in_a_worker_names_worker_patch_and_case_and_logs_its_traceback(index, caplog):
    with caplog.at_level("DEBUG"), pytest.raises(RuntimeError) as raised:
        list(batches(index, SAMPLE, AUGMENT, None, SEED, 0, 30, 1))  # no intensity rule: a mistake in the code
    words = r"worker 1 of 1 \(process \d+\): patch of [ab], \(seed, step, slot\) \(11, 0, 0\): AttributeError: "
    assert re.match(words, str(raised.value))
    assert "Traceback" in caplog.text and "make_patch" in caplog.text


def test_a_worker_outlives_the_signals_that_ask_a_run_to_stop(index):
    before = multiprocessing.active_children()
    with closing(stream(index, 0, 1000, 1)) as items:
        next(items)
        (process,) = started(before)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            os.kill(process.pid, number)
        assert [next(items).draws[0].key[1] for _ in range(6)] == [1, 2, 3, 4, 5, 6]
        assert started(before) == [process]


def test_a_killed_worker_is_named_and_replaced_and_the_bits_stay(index, caplog):
    before = multiprocessing.active_children()
    with closing(stream(index, 0, 12, 2)) as items:
        made = [next(items), next(items)]
        killed = started(before)[0]
        os.kill(killed.pid, signal.SIGKILL)
        made += items
    assert all(same_bits(a, b) for a, b in zip(made, load(index, 0, 12, 0), strict=True))
    assert f"worker 1 of 2 (process {killed.pid}) was killed by SIGKILL" in caplog.text
    assert caplog.text.count("another one takes its place") == 1


def test_the_third_death_ends_the_run_with_a_sentence(index):
    before = multiprocessing.active_children()

    def kill_each():
        with closing(stream(index, 0, 1000, 1)) as items:
            for _ in items:
                for process in started(before):
                    process.kill()

    with pytest.raises(UserError) as raised:
        kill_each()
    assert "sample.workers: worker 1 of 1 (process " in str(raised.value)
    assert "was killed by SIGKILL" in str(raised.value) and "sample.workers=0" in str(raised.value)
    assert started(before) == []


def test_a_store_file_cut_short_under_a_worker_ends_the_run_with_its_name(index, store):
    with closing(stream(index, 0, 1000, 1)) as items:
        next(items)
        for image in store.glob("*/image.*"):
            os.truncate(image, 200)
        with pytest.raises(UserError, match=r"image\.\w+: cannot be read any more"):
            list(items)
