"""How a step is measured that is trained later."""

from collections.abc import Iterator

import pytest
import torch

from pipeline import processes
from pipeline.config.load import load
from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.planning.cost import Trial
from pipeline.stages import measured, torch_setup

HEAD = Head("softmax", Labels({"liver": (1,)}))


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.usefixtures("threads_as_before")
def test_a_step_has_the_cores_that_the_loader_will_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for module in (torch_setup, processes):
        monkeypatch.setattr(module, "available_cores", lambda: 4)
    monkeypatch.setattr(measured, "step_cost", lambda *_: torch.get_num_threads())
    config = load(["train.device=cpu", "sample.workers=1"])
    assert measured.step_in_this_process(None, config=config, head=HEAD) == 3  # type: ignore[arg-type]


def test_a_network_that_cannot_be_made_gets_its_sentence_from_the_process_that_tried() -> None:
    trial = Trial(NetSection(options={"channels": [4]}), (8, 8, 8), 2)
    with pytest.raises(UserError, match=r"net\.options\.channels"):
        measured.measured_step(trial, config=load(["train.device=cpu"]), head=HEAD)
