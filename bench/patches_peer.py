"""nnU-Net's reading of patches, measured; run by `bench/patches.py` with the peers' interpreter:

bench/peers/bin/python -m bench.patches_peer image.npy label.npy FOLDER 128

The case is saved as its preprocessing does, with chunks and blocks for patches of that size, and a patch is read as its
loader does: the files are opened, and image and labels cropped.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

from bench.patches_measure import WARM_PATCHES, cold, positions, warm_ms


def save(image: np.ndarray, labels: np.ndarray, folder: Path, patch_vox: int) -> list[Path]:
    """Save a case as nnU-Net's preprocessing does: float32, standardised, and int16; return its files."""
    standardised = ((image.astype(np.float32) - 100) / 200)[None]
    encoded = labels.astype(np.int16)[None]
    patch = (patch_vox,) * 3
    blocks, chunks = comp_blosc2_params(standardised.shape, patch, standardised.itemsize)
    blocks_seg, chunks_seg = comp_blosc2_params(encoded.shape, patch, encoded.itemsize)
    nnUNetDatasetBlosc2.save_case(
        *(standardised, encoded, {}, str(folder / "case")),
        chunks=chunks,
        blocks=blocks,
        chunks_seg=chunks_seg,
        blocks_seg=blocks_seg,
    )
    return sorted(folder.iterdir())


def main() -> None:
    """Print as JSON the figures of one volume and one size of patch."""
    image, labels = (np.load(path, mmap_mode="r") for path in sys.argv[1:3])
    folder, patch_vox = Path(sys.argv[3]), int(sys.argv[4])
    files = save(image, labels, folder, patch_vox)
    data_set = nnUNetDatasetBlosc2(str(folder), ["case"])

    def read(start: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        data, seg, _, _ = data_set.load_case("case")
        box = [[first, first + patch_vox] for first in start]
        return crop_and_pad_nd(data, box, 0), crop_and_pad_nd(seg, box, -1, cast_cropped_to=np.int16)

    starts = positions(image.shape, patch_vox, WARM_PATCHES)
    print(
        json.dumps(
            {
                "name": f"nnU-Net {version('nnunetv2')}, Blosc2",
                "warm_ms": warm_ms({"": read}, starts)[""],
                "cold": cold(read, starts, files, lambda: None),
                "file_bytes": sum(file.stat().st_size for file in files),
                "patch_bytes": sum(array.nbytes for array in read(starts[0])),
            }
        )
    )


if __name__ == "__main__":
    main()
