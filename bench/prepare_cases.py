"""The CTs that `bench/prepare.py` prepares, each a data set of images/, labels/ and dataset.json for both sides."""

import json
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

import nibabel as nib
import numpy as np
from scipy import ndimage

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "head_neck"
MADE_VOX = (512, 424, 400)
MADE_MM = (0.8, 0.8, 1.0)
ORGAN_REACH_MM = 15  # organs are grown by this, to fill a share of the body that whole-body labels fill
NOISE_HU = 12  # of a CT with soft tissue; what is zoomed is too smooth, and would unzip too quickly


@dataclass(frozen=True)
class Data:
    """A data set in a folder, and the spacing in mm that it is brought to."""

    name: str
    folder: Path
    spacing_mm: tuple[float, float, float]


def examples(folder: Path, cases: int = 4) -> Data:
    """Return some of the examples: 128x128x128 voxels, five organs."""
    described = json.loads((EXAMPLES / "dataset.json").read_text())
    for image in sorted((EXAMPLES / "images").iterdir())[:cases]:
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
            copyfile(EXAMPLES / part / image.name, folder / part / image.name)
    (folder / "dataset.json").write_text(json.dumps({"labels": described["labels"]}))
    return Data(f"{cases} examples, 128x128x128 to 3 mm", folder, (3, 3, 3))


def made(folder: Path, step_z: int = 1) -> Data:
    """Return a large CT of 40 organs: an example zoomed by two, tiled, with noise; every `step_z`-th slice of it."""
    first = sorted((EXAMPLES / "images").iterdir())[0].name
    image = nib.load(EXAMPLES / "images" / first)
    hu = tiled(np.asarray(image.dataobj))
    organs = tiled(grown_organs(np.asarray(nib.load(EXAMPLES / "labels" / first).dataobj), image.header.get_zooms()))
    number = np.zeros(MADE_VOX, np.uint8)  # of the tile: each has organs of its own
    for tile, place in enumerate(np.ndindex(2, 2, 2)):
        number[tuple(slice(256 * part, 256 * part + 256) for part in place)] = tile
    labels = np.where(organs > 0, organs + 5 * number, 0).astype(np.uint8)[:, :, ::step_z]
    random = np.random.default_rng(0)
    for plane in hu:
        plane += np.rint(random.normal(0, NOISE_HU, plane.shape)).astype(np.int16)
    affine = np.diag([*MADE_MM[:2], MADE_MM[2] * step_z, 1.0])
    write(folder / "images" / "made.nii.gz", hu[:, :, ::step_z], affine)
    write(folder / "labels" / "made.nii.gz", labels, affine)
    described = {"labels": {"background": 0} | {f"organ {value}": value for value in range(1, 41)}}
    (folder / "dataset.json").write_text(json.dumps(described))
    size = "x".join(str(count) for count in labels.shape)
    to_mm = (1.5, 1.5, 1.5) if step_z == 1 else (1.5, 1.5, 3.0)
    from_text, to_text = ("x".join(f"{mm:g}" for mm in spacing) for spacing in (np.diag(affine)[:3], to_mm))
    return Data(f"made, {size} of {from_text} to {to_text} mm", folder, to_mm)


def tiled(voxels: np.ndarray) -> np.ndarray:
    """Return 128-cube voxels zoomed by two, and repeated to fill the size that is made."""
    zoomed = voxels.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    return np.tile(zoomed, (2, 2, 2))[tuple(slice(size) for size in MADE_VOX)].copy()


def grown_organs(organs: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Return labels in which what lies near an organ belongs to it."""
    distance_mm, nearest = ndimage.distance_transform_edt(organs == 0, sampling=spacing_mm, return_indices=True)
    return np.where(distance_mm < ORGAN_REACH_MM, organs[tuple(nearest)], 0).astype(np.uint8)


def write(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write voxels as a zipped NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, 1)
    nib.save(image, path)
