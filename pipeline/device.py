"""What this machine can do: which device, which numeric type, which memory layout, how much memory was used."""

import importlib.metadata
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import torch

from pipeline import __version__
from pipeline.errors import UserError
from pipeline.processes import peak_memory_bytes as process_peak_bytes

FIRST_NATIVE_BF16 = (8, 0)  # CUDA compute capability of Ampere
# What else than their own kinds of error says: torch on a CPU; CUDA, NCCL; cuBLAS, cuDNN.
NO_MEMORY = re.compile("DefaultCPUAllocator|out of memory|_STATUS_ALLOC_FAILED")
NOT_DETERMINISTIC = re.compile(r"(\S+) does not have a deterministic implementation")
TRIALS = 4
WORTHWHILE = 1.2  # a trial step must be this much faster: noise must not decide which numbers a run computes with


def choose(name: str, local_rank: int | None = None, *, key: str = "train.device") -> torch.device:
    """Return the device of a config's word: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    local_rank: of several processes on this machine each takes another GPU, by its number; a process that sees only
        one takes that.
    key: where the word stands. Raises UserError where it is none of these or the machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"{key}: found {name!r}; expected auto, cpu, cuda or cuda:N.")
    device = torch.device(name)
    if device.type == "cuda":
        check_cuda(device, key)
        if device.index is None and local_rank is not None:
            return torch.device("cuda", local_rank % torch.cuda.device_count())
    return device


def seed_draws(device: torch.device, seed: int) -> None:
    """Seed what torch draws from on a device. `torch.manual_seed`, which asks every kind of device, takes 0.4 ms."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def check_cuda(device: torch.device, key: str) -> None:
    """Refuse a CUDA device that is not there."""
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "it finds no usable NVIDIA GPU or driver" if built else "this build of torch is for CPUs only"
        raise UserError(f"{key}: {device} was asked for, but torch {torch.__version__} cannot use it: {why}; use cpu.")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise UserError(f"{key}: {device} was asked for; this machine has {count}: cuda:0 to cuda:{count - 1}.")


def amp_dtype(
    amp: str,
    device: torch.device,
    trial: Callable[[torch.dtype | None], float] | None = None,
    *,
    key: str = "train.amp",
) -> torch.dtype | None:
    """Return the type of automatic mixed precision; None for float32 throughout.

    amp: "off", "bf16", "fp16", or "auto": on CUDA bfloat16 where it is native, else float16; on a CPU bfloat16 only
        where it is native and `trial` measured it at least 1.2 times faster.
    trial: runs a training step in a type (None: float32) and returns its seconds, infinity where the step came to
        nothing: then, and without a trial, a CPU gets float32.

    key: where `amp` stands.

    Raises UserError for fp16 on a CPU.
    """
    if amp == "off":
        return None
    if amp == "bf16":
        return torch.bfloat16
    if amp == "fp16":
        if device.type == "cpu":
            raise UserError(f"{key}: fp16 needs a GPU; on a CPU use auto, bf16 or off.")
        return torch.float16
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= FIRST_NATIVE_BF16
        return torch.bfloat16 if native else torch.float16
    if trial is None or not cpu_has_bf16():
        return None
    seconds: dict[torch.dtype | None, float] = {None: inf, torch.bfloat16: inf}
    for _ in range(TRIALS):  # in turn, and the best of each: another process may slow down any of them
        for kind in seconds:
            spent = trial(kind)
            if spent == inf:
                return None
            seconds[kind] = min(seconds[kind], spent)
    return torch.bfloat16 if seconds[None] >= WORTHWHILE * seconds[torch.bfloat16] else None


def cpu_has_bf16() -> bool:
    """True where the processor multiplies bfloat16 by itself (AVX512_BF16, AMX): elsewhere it is emulated, and slow."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the layout in which 3D convolutions are fastest: channels last on a CPU, where it was measured."""
    return torch.channels_last_3d if device.type == "cpu" else torch.contiguous_format


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory used so far: of torch's tensors on CUDA, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return process_peak_bytes()


def circumstances(device: torch.device) -> dict[str, Any]:
    """Return what decides, beside the config, whether a computation repeats to the last bit; JSON values by name."""
    cuda = device.type == "cuda"
    return {
        "pipeline": __version__,
        **{name: importlib.metadata.version(name) for name in ("torch", "monai", "numpy")},
        "device": torch.cuda.get_device_name(device) if cuda else f"cpu {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def is_out_of_memory(error: BaseException | None) -> bool:
    """True for what torch, CUDA's libraries and NumPy raise where memory does not suffice."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or NO_MEMORY.search(str(error)) is not None


@contextmanager
def memory_told(cure: str) -> Iterator[None]:
    """Turn running out of memory, on a GPU or a CPU, in torch or NumPy, into a UserError that says `cure`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch's CPU allocator raises no better kind than RuntimeError
        if not is_out_of_memory(error):
            raise
        found = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"not enough memory ({found}); {cure}.") from error


@contextmanager
def indeterminism_told() -> Iterator[None]:
    """Turn torch's refusal of what it cannot repeat bit for bit into a UserError that says which operation it was."""
    try:
        yield
    except RuntimeError as error:
        found = NOT_DETERMINISTIC.match(str(error))
        if found is None:
            raise
        raise UserError(
            f"train.deterministic: on this device torch has no {found[1]} whose results repeat bit for bit, and the "
            "network or the loss needs it; set train.deterministic=false, or leave out what docs/networks.md names."
        ) from error
