"""A 3D CT segmentation pipeline on MONAI and PyTorch, run as stages from a shell."""

__version__ = "0.1.0"
