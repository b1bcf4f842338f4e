"""Real processes that speak by Gloo."""

import os
import socket
import subprocess
import sys
import threading
from contextvars import copy_context
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from pipeline.ranks import Rank
from pipeline.training.distributed import Ranks, contexts_alive, joined, wait_for_threads

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
START = """\
import torch
from pipeline.errors import UserError
from pipeline.ranks import this_rank
from pipeline.training.distributed import joined
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_together(body, count=2):
    """Run lines of code in processes that have met as `ranks`; return what each printed, and the UserError it met."""
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    code = f"{START}try:\n    with joined(this_rank(), torch.device('cpu')) as ranks:\n{lines}"
    code += "except UserError as error:\n    print(error)"
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | place | {"RANK": str(number), "LOCAL_RANK": str(number), "OMP_NUM_THREADS": "1"},
        )
        for number in range(count)
    ]  # fmt: skip
    said = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, said
    return [out for out, _ in said]


def test_ranks_tell_each_other_what_they_have():
    body = """\
n = ranks.number
print(ranks.is_first, ranks.any(n == 1), ranks.any(False))
print(ranks.mean(torch.tensor([float(n), 5.0])).tolist(), ranks.largest(torch.tensor([float(-n)])).tolist())
print(ranks.gather({"rank": n, "text": "é" * 5 * n}), ranks.of_first([n, None, "x"]))"""
    first, second = run_together(body)
    rest = "[0.5, 5.0] [0.0]\n[{'rank': 0, 'text': ''}, {'rank': 1, 'text': 'ééééé'}] [0, None, 'x']\n"
    assert first == "True True False\n" + rest
    assert second == "False True False\n" + rest


def test_buffers_are_those_of_the_first_rank():
    body = """\
net = torch.nn.BatchNorm3d(2)
net(torch.full((1, 2, 4, 4, 4), ranks.number + 1.0))
ranks.take_buffers(net)
print(net.running_mean.tolist(), net.num_batches_tracked.item())
print(ranks.largest(torch.tensor([2**40 + ranks.number])).item() - 2**40)"""
    first, second = run_together(body)
    assert first == second
    assert first.splitlines()[1] == "1" and first.startswith("[0.1")


def test_ranks_validate_what_the_first_does_not_know_with_its_buffers():
    body = """\
import numpy as np
from pipeline.config.infer import InferSection
from pipeline.training.scored_cases import ScoredCases
from pipeline.training.validate import validate
from tests.training.conftest import FACTS, FindsBone, MemoryCase
class Shifted(FindsBone):
    def __init__(self, shift):
        super().__init__()
        self.register_buffer("shift", torch.tensor(shift))
    def forward(self, image):
        return super().forward(image + self.shift)
def case(name, size):
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[2 : 2 + size, 2:5, 2:5] = 1
    return MemoryCase(name, np.where(labels == 1, 1000, 0).astype(np.int16), labels)
cases = [case(name, size) for name, size in (("a", 2), ("b", 3), ("c", 4))]
def validated(known):
    seen = []
    def check():
        seen.append(1)
    net = Shifted(float(ranks.number))  # all is bone to the second rank
    return validate(net, cases, FACTS, InferSection(), torch.device("cpu"), check, known, ranks=ranks).cases, len(seen)
known = ScoredCases()
print(validated(known), list(known.cases))
some = ScoredCases()
some.cases = {"b": known.cases["b"]} if ranks.is_first else {}
print(validated(some))"""
    scores = "{'a': 1.0, 'b': 1.0, 'c': 1.0}"
    assert run_together(body) == [f"({scores}, 2) ['a', 'b', 'c']\n({scores}, 1)\n"] * 2


def test_gradients_of_a_wrapped_network_are_the_mean_over_ranks():
    body = """\
net = torch.nn.Linear(1, 1, bias=False)
wrapped = ranks.wrap(net)
wrapped(torch.tensor([[ranks.number + 1.0]])).sum().backward()
print(net.weight.grad.item())"""
    assert run_together(body) == ["1.5\n", "1.5\n"]


def test_weights_without_a_gradient_hold_nobody_up():
    body = """\
net = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False))
net.forward = net[0].forward
wrapped = ranks.wrap(net, all_used=False)
for step in range(3):
    net.zero_grad()
    wrapped(torch.tensor([[ranks.number + 1.0]])).sum().backward()
print(net[0].weight.grad.item(), net[1].weight.grad)"""
    assert run_together(body) == ["1.5 None\n"] * 2


def test_the_others_are_told_why_a_process_has_ended():
    body = """\
if ranks.number == 1:
    raise UserError("case_7: not an image; mend it.")
ranks.any(False)"""
    told = "process 1 of 3 has ended: case_7: not an image; mend it; mend that, and the same command goes on after "
    first, second, third = run_together(body, count=3)
    assert second == "case_7: not an image; mend it.\n"
    assert first == third == told + "the last state that was saved.\n"


def test_a_process_that_ends_without_a_word_is_told_as_such():
    body = """\
import os
if ranks.number == 1:
    os._exit(0)
ranks.any(False)"""
    first, _ = run_together(body)
    assert first.startswith("another process of this run has ended without leaving a reason, as one does that is")


def test_what_a_thread_holds_of_a_backward_pass_is_waited_for():
    before, dropped = contexts_alive(), threading.Event()
    held = [copy_context()]

    def drop():
        held.clear()
        dropped.set()

    assert contexts_alive() == before + 1
    threading.Timer(0.2, drop).start()
    wait_for_threads(before)
    assert dropped.is_set()
    assert contexts_alive() == before


def test_what_is_never_dropped_holds_nobody_up(monkeypatch):
    monkeypatch.setattr("pipeline.training.distributed.LINGERING", 0.01)
    before, held = contexts_alive(), copy_context()
    wait_for_threads(before)
    assert contexts_alive() == before + 1
    del held


def test_a_process_that_is_alone_meets_nobody():
    net = torch.nn.Linear(1, 1)
    with joined(Rank(), CPU) as ranks:
        assert ranks.is_first
        assert ranks.wrap(net) is net
        assert [ranks.any(False), ranks.any(True)] == [False, True]
        assert ranks.gather([1]) == [[1]]
        assert ranks.of_first({"a": 1}) == {"a": 1}
        assert torch.equal(ranks.mean(torch.tensor([3.0])), torch.tensor([3.0]))
    assert not torch.distributed.is_initialized()
    assert Ranks().count == 1


def test_a_place_to_meet_that_is_not_given_is_told(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(UserError, match=r"^MASTER_ADDR: not set, but this is process 1 of 2; torchrun"):
        joined(Rank(1, 2, 1), CPU).__enter__()


def test_others_that_do_not_come_are_told(monkeypatch):
    monkeypatch.setattr("pipeline.training.distributed.MEETING", timedelta(seconds=1))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    with pytest.raises(UserError, match=r"^process 0 of 2 did not meet the others at 127.0.0.1:\d+ within 1 s"):
        joined(Rank(0, 2, 0), CPU).__enter__()
