"""How much memory is free, and which: on a GPU, or on a CPU within what its control group may use."""

import socket
from contextlib import suppress
from pathlib import Path

import torch

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
UNLIMITED = 2**60  # version 1 says "no limit" by a number about this large
FALLBACK_BYTES = 8 * 2**30  # where the system does not tell


def free_memory_bytes(device: torch.device, proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Return how many bytes a new process could take now.

    On a CPU the least of what the machine has available, and of what each control group (version 2, else 1) that this
    process belongs to has left; pages that only cache files count as free in both. 8 GiB where nothing tells.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [*machine_free_bytes(proc), *group_free_bytes(proc, cgroup)]
    return min(found, default=FALLBACK_BYTES)


def memory_name(device: torch.device) -> str:
    """Return a name that is the same for all processes that compute in the same memory: of the machine and its GPU."""
    host = socket.gethostname()
    return f"{host} {torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else host


def machine_free_bytes(proc: Path) -> list[int]:
    """Return what Linux calls available memory; nothing on other systems."""
    with suppress(OSError):
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return [int(line.split()[1]) * 1024]
    return []


def group_free_bytes(proc: Path, cgroup: Path) -> list[int]:
    """Return what each control group with a memory limit has left."""
    memberships: list[str] = []
    with suppress(OSError):
        memberships = (proc / "self" / "cgroup").read_text().splitlines()
    free = []
    for line in memberships:
        _, controllers, name = line.split(":", 2)
        group = Path(name)
        folders = [folder.relative_to("/") for folder in (group, *group.parents)]
        if controllers == "":
            free += [left(cgroup / folder, "memory.max", "memory.current", "inactive_file") for folder in folders]
        elif controllers == "memory":
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            free += [left(cgroup / "memory" / folder, *names) for folder in folders]
    return [bytes_left for bytes_left in free if bytes_left is not None]


def left(folder: Path, limit_file: str, used_file: str, cache: str) -> int | None:
    """Return a group's limit less what it uses for more than caching files; None where it has no limit."""
    try:
        limit, used = int((folder / limit_file).read_text()), int((folder / used_file).read_text())
        statistics = (folder / "memory.stat").read_text().split()
    except (OSError, ValueError):  # "max" is no number, and no limit
        return None
    if limit >= UNLIMITED:
        return None
    cached = int(statistics[statistics.index(cache) + 1]) if cache in statistics else 0
    return max(0, limit - used + cached)
