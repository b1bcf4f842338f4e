"""NIfTI files of any geometry, and one real CT."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

HEAD_NECK = Path(__file__).parents[2] / "examples" / "head_neck"


@pytest.fixture(scope="session")
def real_image() -> Path:
    """A head-and-neck CT, int16 HU."""
    return HEAD_NECK / "images" / "hn_001.nii.gz"


@pytest.fixture(scope="session")
def real_label() -> Path:
    """The label map of that CT, values 0 to 5."""
    return HEAD_NECK / "labels" / "hn_001.nii.gz"


@pytest.fixture
def write_nifti(tmp_path: Path) -> Callable[..., Path]:
    """Write voxels and an affine as NIfTI, after `change(header)`; return the path."""

    def write(
        voxels: np.ndarray,
        affine: np.ndarray | None = None,
        *,
        name: str = "case.nii.gz",
        change: Callable[[nib.Nifti1Header], None] | None = None,
        image_class: type[nib.Nifti1Image] = nib.Nifti1Image,
    ) -> Path:
        image = image_class(voxels, np.eye(4) if affine is None else affine, dtype=voxels.dtype)
        if change is not None:
            change(image.header)
        image._affine = None  # the header is written as `change` left it
        path = tmp_path / name
        nib.save(image, path)
        return path

    return write
