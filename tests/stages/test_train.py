"""How the cores are shared between training and the processes that make its batches."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from pipeline import processes
from pipeline.config.train import TrainSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.stages import torch_setup, train

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def grant(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """Let this process have so many cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for module in (torch_setup, processes):
        monkeypatch.setattr(module, "available_cores", lambda: cores)


@pytest.mark.parametrize(
    ("cores", "given", "device", "workers", "threads"),
    [
        (4, "auto", CPU, 0, 4),
        (4, 1, CPU, 1, 3),
        (2, 2, CPU, 2, 1),
        (4, 0, CUDA, 0, 4),
        (4, "auto", CUDA, 3, 1),
        (1, "auto", CUDA, 1, 1),
        (64, "auto", CUDA, 8, 56),
    ],
)
def test_training_has_the_cores_that_its_loader_leaves(
    monkeypatch: pytest.MonkeyPatch, cores: int, given: int, device: torch.device, workers: int, threads: int
) -> None:
    grant(monkeypatch, cores)
    assert torch_setup.loader_workers(given, device) == workers
    torch_setup.set_up_torch(TrainSection(), workers, CPU)
    assert torch.get_num_threads() == threads


def test_threads_that_are_given_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    grant(monkeypatch, 8)
    torch_setup.set_up_torch(TrainSection(threads=2), 4, CPU)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("patch_vox", "warns"), [((32, 32, 32), False), ((20, 40, 40), True)])
def test_a_patch_that_no_case_fills_half_of_is_told(
    patch_vox: tuple[int, int, int], warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    shapes = {"flat": (90, 90, 5), "b": (30, 30, 20)}  # 18,000 of 32,768 voxels; 12,000 of 32,000
    cases = [SimpleNamespace(name=name, grid=SimpleNamespace(shape_vox=shape)) for name, shape in shapes.items()]
    with caplog.at_level("WARNING", logger="hounsfield"):
        train.report_patch(patch_vox, cases)
    told = "sample.patch_vox: [20, 40, 40] is mostly padding: the case that fills most of it, b, has [30, 30, 20]"
    assert (told in caplog.text) is warns
    assert bool(caplog.text) is warns


def test_a_class_that_only_held_out_cases_have_is_told_with_the_cure() -> None:
    have_all, have_liver = (
        SimpleNamespace(name=name, counts=counts) for name, counts in (("a", {1: 9, 2: 9}), ("b", {1: 9}))
    )
    head = Head("softmax", Labels({"liver": (1,), "tumour": (2,)}), 0.5)
    train.check_held_out(head, train.Cases([have_all], [have_liver]))
    with pytest.raises(UserError, match=r"all cases that have tumour \(a\) are held out, .* train\.fold=all"):
        train.check_held_out(head, train.Cases([have_liver], [have_all]))
