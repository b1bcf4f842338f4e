"""Free memory, from made-up /proc and cgroup trees and from this machine."""

from pathlib import Path

import pytest
import torch

from pipeline.planning.memory import FALLBACK_BYTES, free_memory_bytes

CPU = torch.device("cpu")
V2 = {
    "cgroup/a/b/memory.max": "1000000",
    "cgroup/a/b/memory.current": "700000",
    "cgroup/a/b/memory.stat": "anon 1\ninactive_file 200000\n",
}
V1 = {
    "cgroup/memory/a/memory.limit_in_bytes": "900000",
    "cgroup/memory/a/memory.usage_in_bytes": "100000",
    "cgroup/memory/a/memory.stat": "total_inactive_file 50000\n",
}
MACHINE = {"proc/meminfo": "MemTotal: 9999 kB\nMemAvailable: 4000 kB\n"}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (MACHINE, 4000 * 1024),
        (MACHINE | V2 | {"proc/self/cgroup": "0::/a/b\n"}, 500_000),
        (MACHINE | V2 | {"proc/self/cgroup": "0::/a/b/c\n"}, 500_000),  # a group above counts for those in it
        (MACHINE | V2 | {"proc/self/cgroup": "0::/x\n"}, 4000 * 1024),
        (MACHINE | V2 | {"proc/self/cgroup": "0::/a/b\n", "cgroup/a/b/memory.max": "max"}, 4000 * 1024),
        (MACHINE | V1 | {"proc/self/cgroup": "3:cpu:/a\n2:memory:/a\n"}, 850_000),
        (
            MACHINE | V1 | {"proc/self/cgroup": "2:memory:/a\n", "cgroup/memory/a/memory.limit_in_bytes": str(2**63)},
            4000 * 1024,
        ),
        ({}, FALLBACK_BYTES),
    ],
)
def test_the_least_of_machine_and_groups_is_free(tmp_path: Path, files: dict[str, str], free: int) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert free_memory_bytes(CPU, tmp_path / "proc", tmp_path / "cgroup") == free


def test_this_machine_has_some_memory_and_not_more_than_there_is() -> None:
    assert 2**20 < free_memory_bytes(CPU) < 2**50
