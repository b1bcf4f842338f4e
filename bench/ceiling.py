"""The Dice that a perfect network would reach: the truth taken to the training grid and back onto the CT's own.

python bench/ceiling.py examples/head_neck 3 4 5      spacings in mm
python bench/ceiling.py examples/head_neck 4,4,3
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline.dataset.checks import load_pair
from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.labels import Labels
from pipeline.log import table
from pipeline.metrics.score import score_case
from pipeline.volume.grid import Float3, Grid
from pipeline.volume.resample import resample_labels
from pipeline.volume.restore import restore_slabs


def there_and_back(truth: np.ndarray, grid: Grid, spacing_mm: Float3, labels: Labels) -> np.ndarray:
    """Return the truth as the order of operations of inference restores it from the training grid."""
    coarse = grid.at_spacing(spacing_mm)
    reduced, _ = resample_labels(truth, grid, coarse)
    channels = np.stack([reduced == index for index in range(len(labels.names) + 1)]).astype(np.float32)
    restored = np.zeros(grid.shape_vox, np.uint8)
    for slab, part in restore_slabs(channels, coarse, grid):
        restored[slab] = part.argmax(axis=0)
    return restored


def main() -> None:
    """Print the mean Dice of each class at each spacing."""
    source = Path(sys.argv[1])
    labels = read_labels(source)
    assert labels is not None, "dataset.json names the classes"
    cases = [load_pair(case, labels)[1] for case in find_cases(source, labels)]
    rows = []
    for given in sys.argv[2:]:
        numbers = [float(number) for number in given.split(",")]
        x, y, z = numbers if len(numbers) == 3 else numbers * 3
        scores = []
        for truth in cases:
            restored = there_and_back(truth.voxels, truth.grid, (x, y, z), labels)
            scored = score_case(truth.voxels, restored, truth.grid.spacing_mm, labels, ["dice"])
            scores.append([score.value for score in scored])
        by_class = np.nanmean(scores, axis=0)
        rows.append([given, *(f"{value:.3f}" for value in by_class), f"{np.mean(np.nanmean(scores, axis=1)):.3f}"])
    table(f"Dice of {len(cases)} cases after the training grid", ["mm", *labels.names, "mean"], rows)


if __name__ == "__main__":
    main()
