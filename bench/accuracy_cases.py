"""Which cases train and which are predicted in `bench/accuracy.py`, the same for both sides."""

from pathlib import Path

FOLDS = 5
ENDING = ".nii.gz"


def case_names(data: Path) -> list[str]:
    """Return the names of the cases that have an image, sorted."""
    return sorted(path.name.removesuffix(ENDING) for path in (data / "images").glob(f"*{ENDING}"))


def split(data: Path, test: int, fold: int | None) -> tuple[list[str], list[str]]:
    """Return the names of the cases that train, and of those that are predicted.

    test: how many cases at the end, by name, are predicted. fold: those are not touched; of the others every fifth is
    predicted, from this one on, and the rest trains.
    """
    names = case_names(data)
    training, held_out = names[:-test], names[-test:]
    if fold is not None:
        held_out = training[fold::FOLDS]
        training = [name for name in training if name not in held_out]
    return training, held_out
