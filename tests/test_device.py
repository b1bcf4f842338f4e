from math import inf

import numpy as np
import pytest
import torch

from pipeline.device import (
    amp_dtype,
    choose,
    circumstances,
    cpu_has_bf16,
    indeterminism_told,
    memory_format,
    memory_told,
    peak_memory_bytes,
    seed_draws,
)
from pipeline.errors import UserError

CPU = torch.device("cpu")
NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens on machines without CUDA")


def test_cpu_is_always_there():
    assert choose("cpu") == CPU


def test_auto_takes_cuda_where_there_is_one():
    assert choose("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("word", ["auto", "cuda"])
def test_each_process_takes_a_gpu_by_its_number_where_there_are_several(word, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [choose(word, local) for local in (0, 3, 4)] == [torch.device("cuda", index) for index in (0, 3, 0)]
    assert choose(word).index is None
    assert choose("cuda:2", 1) == torch.device("cuda", 2)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", "CUDA", ""])
def test_other_words_are_refused(name):
    with pytest.raises(UserError, match="expected auto, cpu, cuda or cuda:N"):
        choose(name)


@NO_CUDA
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_is_refused_with_the_reason_where_there_is_none(name):
    with pytest.raises(UserError, match=rf"^infer\.device: {name} was asked for, but torch .* cannot use it: .*; use"):
        choose(name, key="infer.device")


@pytest.mark.parametrize(("amp", "dtype"), [("off", None), ("bf16", torch.bfloat16)])
def test_what_is_asked_for_is_taken_without_a_trial(amp, dtype):
    assert amp_dtype(amp, CPU, trial=lambda given: pytest.fail("no trial was needed")) is dtype


def test_fp16_is_for_gpus():
    assert amp_dtype("fp16", torch.device("cuda")) is torch.float16
    with pytest.raises(UserError, match=r"^train\.amp: fp16 needs a GPU"):
        amp_dtype("fp16", CPU)
    with pytest.raises(UserError, match=r"^infer\.amp: fp16 needs a GPU"):
        amp_dtype("fp16", CPU, key="infer.amp")


def test_auto_on_a_cpu_without_a_trial_is_float32():
    assert amp_dtype("auto", CPU) is None


@pytest.mark.skipif(not cpu_has_bf16(), reason="the processor has no native bfloat16")
@pytest.mark.parametrize(("seconds", "dtype"), [(0.5, torch.bfloat16), (0.9, None), (2.0, None)])
def test_auto_takes_bfloat16_only_where_the_trial_is_clearly_faster(seconds, dtype):
    assert amp_dtype("auto", CPU, trial=lambda given: 1.0 if given is None else seconds) is dtype


@pytest.mark.parametrize("failing", [None, torch.bfloat16])
def test_auto_is_float32_where_a_trial_step_came_to_nothing(failing, monkeypatch):
    monkeypatch.setattr("pipeline.device.cpu_has_bf16", lambda: True)
    seconds = {None: 1.0, torch.bfloat16: 0.1} | {failing: inf}
    assert amp_dtype("auto", CPU, trial=seconds.__getitem__) is None


@pytest.mark.skipif(cpu_has_bf16(), reason="the processor has native bfloat16")
def test_auto_does_not_try_an_emulated_bfloat16():
    assert amp_dtype("auto", CPU, trial=lambda given: pytest.fail("it is emulated")) is None


def test_convolutions_run_channels_last_on_a_cpu():
    assert memory_format(CPU) is torch.channels_last_3d


def test_draws_are_seeded_as_torch_seeds_them():
    torch.manual_seed(2**40 + 7)
    expected = torch.rand(3)
    seed_draws(CPU, 2**40 + 7)
    assert torch.equal(torch.rand(3), expected)


def test_peak_memory_of_the_process_holds_a_tensor_that_was_filled():
    size = 50_000_000
    tensor = torch.ones(size, dtype=torch.uint8)
    assert peak_memory_bytes(CPU) >= tensor.nbytes
    assert peak_memory_bytes(CPU) < 1e12  # bytes, not thousands of them


def test_a_tensor_too_large_for_memory_is_told_with_the_cure():
    with pytest.raises(UserError, match=r"not enough memory \(.*\); use less\."), memory_told("use less"):
        torch.empty(2**50)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_what_cuda_and_its_libraries_say_of_memory_is_told_alike(error):
    with pytest.raises(UserError, match=r"not enough memory \(.*\); use less\."), memory_told("use less"):
        raise error


def test_memory_that_numpy_lacks_is_told_alike():
    with (
        pytest.raises(UserError, match=r"not enough memory \(Unable to allocate .*\); use less\."),
        memory_told("use less"),
    ):
        np.empty(2**60, np.uint8)


def test_other_errors_pass_by():
    with pytest.raises(RuntimeError, match="shape"), memory_told("use less"):
        torch.zeros(3).view(2)


def test_circumstances_follow_the_settings():
    before = circumstances(CPU)
    torch.use_deterministic_algorithms(not before["deterministic"])
    try:
        assert circumstances(CPU) == before | {"deterministic": not before["deterministic"]}
    finally:
        torch.use_deterministic_algorithms(before["deterministic"])


@pytest.fixture
def deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.usefixtures("deterministic")
def test_what_torch_cannot_repeat_bit_for_bit_is_told_with_the_key():
    with (
        pytest.raises(UserError, match=r"train\.deterministic: .* no put_ .*train\.deterministic=false"),
        indeterminism_told(),
    ):
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))


def test_other_errors_of_torch_stay_what_they_are():
    with pytest.raises(RuntimeError, match="must match"), indeterminism_told():
        torch.zeros(2) + torch.zeros(3)
