"""Exit codes are an interface that schedulers and scripts read; what the machine refuses gets a sentence."""

import errno

import pytest

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
        (MemoryError(), ["not enough memory", "workers"]),
    ],
)
def test_what_the_machine_refuses_gets_a_sentence(error: Exception, words: list[str]) -> None:
    sentence = explain(error)
    assert sentence is not None
    assert [word for word in words if word not in sentence] == []


@pytest.mark.parametrize("error", [ValueError("x"), OSError("no number"), KeyError("x")])
def test_other_errors_get_none(error: Exception) -> None:
    assert explain(error) is None
