"""Exit codes are an interface that schedulers and scripts read; what the machine refuses gets a sentence."""

import errno
import resource
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pipeline.errors import ExitCode, explain


def test_exit_codes_are_the_documented_numbers() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "SOME_FAILED": 1,
        "USER_ERROR": 2,
        "INTERNAL_ERROR": 3,
        "INTERRUPTED": 75,
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "x", "/a/b"), ["/a/b: no space left on device", "free some space", "work="]),
        (OSError(errno.ENOSPC, "x"), ["writing a file: no space"]),
        (OSError(errno.EROFS, "x", "/a"), ["/a: read-only file system", "work="]),
        (PermissionError(errno.EACCES, "x", "/a"), ["/a: permission denied", "permissions"]),
        (FileNotFoundError(errno.ENOENT, "x", "/a"), ["/a: no such file", "check the path"]),
        (NotADirectoryError(errno.ENOTDIR, "x", "/a"), ["/a: not a directory", "a file stands where a folder"]),
        (OSError(errno.EIO, "x", "/a"), ["/a: input/output error", "check the disk"]),
        (SafetensorError("I/O error: no space (os error 28)"), ["writing a file: no space left", "free some space"]),
        (MemoryError(), ["not enough memory", "workers"]),
    ],
)
def test_what_the_machine_refuses_gets_a_sentence(error: Exception, words: list[str]) -> None:
    sentence = explain(error)
    assert sentence is not None
    assert [word for word in words if word not in sentence] == []


@pytest.mark.parametrize(
    "error", [ValueError("(os error 28)"), OSError("no number"), KeyError("x"), SafetensorError("torn")]
)
def test_other_errors_get_none(error: Exception) -> None:
    assert explain(error) is None


def test_weights_that_the_disk_does_not_take_get_a_sentence(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # stands in for a full disk
    try:
        with pytest.raises(SafetensorError) as caught:
            save_file({"weight": torch.zeros(1000)}, tmp_path / "weights.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (explain(caught.value) or "").startswith("writing a file: file too large; check the disk")
