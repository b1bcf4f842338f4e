"""Compressed blocks of voxels."""

from typing import TypeAlias

import lz4.block
import numpy as np

from pipeline.volume.grid import Int3

Buffer: TypeAlias = bytes | memoryview

BLOCK_ERRORS = (lz4.block.LZ4BlockError,)


def pack(voxels: np.ndarray) -> bytes:
    """Compress a contiguous block of uint8 or int16.

    Of int16 all low bytes come first, then all high ones: those repeat, which LZ4 alone would not find. A CT of a body
    shrinks to 0.6 instead of 0.9 of its size.
    """
    planes = voxels.reshape(-1).view(np.uint8).reshape(-1, voxels.itemsize).T
    return lz4.block.compress(np.ascontiguousarray(planes), store_size=False)


def unpack(data: Buffer, shape_vox: Int3, kind: np.dtype) -> np.ndarray:
    """Return the block of `shape_vox` that `pack` compressed. Raises one of BLOCK_ERRORS or ValueError on others."""
    x, y, z = shape_vox
    found = lz4.block.decompress(data, uncompressed_size=x * y * z * kind.itemsize)
    planes = np.frombuffer(found, np.uint8).reshape(kind.itemsize, x * y * z)
    if kind.itemsize == 1:
        return planes.view(kind).reshape(shape_vox)
    voxels = planes[1].astype(np.uint16)
    voxels <<= 8
    voxels |= planes[0]
    return voxels.view(kind).reshape(shape_vox)
