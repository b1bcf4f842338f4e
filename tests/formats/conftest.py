"""NIfTI files of any geometry."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


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
