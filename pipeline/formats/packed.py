"""Whether voxels that are packed inside another file are whole, down to their checksum."""

import zlib
from pathlib import Path

from pipeline.errors import UserError

CHUNK_BYTES = 2**20
ANY_HEADER = zlib.MAX_WBITS + 32  # of zlib or of gzip


def unpacked_bytes(file: Path, start: int, size: int) -> int:
    """Return how many bytes are packed, by zlib or gzip, in the `size` bytes of a file from byte `start` on.

    Raises UserError where the stream is damaged, its checksum is wrong, or it does not end within `size` bytes.
    """
    stream, found, left = zlib.decompressobj(ANY_HEADER), 0, size
    try:
        with file.open("rb") as packed:
            packed.seek(start)
            while not stream.eof:
                chunk = stream.unconsumed_tail
                if not chunk:
                    chunk = packed.read(min(left, CHUNK_BYTES))
                    left -= len(chunk)
                if not chunk:
                    raise UserError(f"{file}: truncated, its packed voxels end too early; copy or make it again.")
                found += len(stream.decompress(chunk, 16 * CHUNK_BYTES))
    except zlib.error as error:
        raise UserError(f"{file}: damaged, its voxels cannot be unpacked ({error}); copy or make it again.") from error
    return found
