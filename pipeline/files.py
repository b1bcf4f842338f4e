"""Files that are either whole or not there: written under a temporary name, flushed, then renamed."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

TEMPORARY_PREFIX = ".partial-"
STALE_AFTER_S = 24 * 3600.0
STANDS_ALREADY = (errno.ENOTEMPTY, errno.EEXIST)
CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # some network file systems, asked for a folder
UMASK = os.umask(0)
os.umask(UMASK)
READABLE = 0o666 & ~UMASK  # as the user wants new files to be: safetensors lets nobody else read its own


def temporary_sibling(path: Path) -> Path:
    """Return a fresh hidden name in the folder of `path`, with this process's id in it.

    The suffixes stay, as writers choose a format by them.
    """
    return path.with_name(f"{TEMPORARY_PREFIX}{process_space()}-{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name}")


def is_orphan(temporary: Path) -> bool:
    """Tell whether a temporary name was given by a process of this machine that has ended; False where unknown."""
    named_here = re.match(rf"{re.escape(TEMPORARY_PREFIX)}{process_space()}-(\d+)-", temporary.name)
    return named_here is not None and has_ended(int(named_here[1]))


def has_ended(process: int) -> bool:
    """Tell whether no process of this machine has an id any more."""
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return True
    except OSError:
        return False  # another user's process
    return False


def started(process: int) -> str | None:
    """Return when a process was started, by the kernel's clock; None where it has ended, or the system does not tell.

    An id is given again; an id and this are not.
    """
    try:
        fields = kernel_fields(process)
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def kernel_fields(process: int) -> list[str]:
    """Return what Linux says of a process: its state, parent, group, session, ... OSError where it is gone."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes that died; young ones of another machine may still be written to."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with suppress(FileNotFoundError):
            if is_orphan(path) or time.time() - path.lstat().st_mtime > STALE_AFTER_S:
                remove(path)


@cache
def process_space() -> str:
    """Return 8 hex digits, the same in all processes that know each other's ids: of one host, boot and container."""
    known = [platform.node()]
    with suppress(OSError):  # only Linux has these
        known += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hash_json(known)[:8]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write a file or fill a folder at; on success it takes the place of `path`.

    The parent folder is made. A file is flushed to disk before the rename. A folder that stands at `path` is moved
    aside just before the rename, and removed after it. On any error the temporary path is removed and `path` is left as
    it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    try:
        yield temporary
        publish(temporary, path)
    finally:
        remove(temporary)


def publish(temporary: Path, path: Path) -> None:
    """Flush what lies at `temporary` (a file, or a folder with its files) and rename it to `path`."""
    if temporary.is_dir():
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                with suppress(OSError):  # some network file systems know no rights
                    file.chmod(READABLE)
                flush(file)
        flush(temporary)
        replaced: list[Path] = []
        try:
            while not _renamed(temporary, path):  # again where another process has put its own there in between
                replaced.append(temporary_sibling(path))
                with suppress(FileNotFoundError):
                    path.rename(replaced[-1])
        except BaseException:
            if replaced and not path.exists():
                with suppress(OSError):  # which would hide why
                    replaced[-1].rename(path)
            raise
        for old in replaced:  # only now: as long as that takes, a kill must find the new one there
            remove(old)
    else:
        flush(temporary)
        temporary.replace(path)
    flush(path.parent)


def _renamed(temporary: Path, path: Path) -> bool:
    """Rename a folder; return False where a folder with files stands in its place."""
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno not in STANDS_ALREADY:
            raise
        return False
    return True


def flush(path: Path) -> None:
    """Make the kernel put a file's bytes, or a folder's entries, on disk; OSError names the path where it cannot."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_FLUSH:  # a full disk may show only now
            error.filename = str(path)
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, atomically. Not-a-number is refused: JSON has none."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises UserError that names the file where it is missing, not UTF-8 or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); restore the file or make it again.") from error


def stamp(path: Path) -> dict[str, Any]:
    """Return what identifies a file without reading it: absolute path, size in bytes, time of change in ns."""
    status = path.stat()
    return {"path": str(path.absolute()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def hash_json(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of `value` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
