"""Draw the README's picture: a test case of a finished demo, truth and prediction over the CT.

python docs/picture.py runs/demo hn_083 docs/images/demo.png
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline.dataset.checks import load_pair
from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.files import read_json
from pipeline.formats.dispatch import read_label
from pipeline.report.case_picture import draw_case

SOURCE = Path(__file__).resolve().parents[1] / "examples" / "head_neck"


def main() -> None:
    """Draw the case of the work folder into the file, all three given."""
    work, name, path = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    labels = read_labels(SOURCE)
    assert labels is not None, "dataset.json names the classes"
    case = next(case for case in find_cases(SOURCE, labels) if case.name == name)
    image, truth = load_pair(case, labels)
    prediction = labels.encode(read_label(work / "predict" / case.image.name).voxels)
    scores = read_json(work / "evaluate" / "cases" / f"{name}.json")["scores"]
    dice = [score["value"] for score in scores if score["metric"] == "dice" and score["value"] is not None]
    title = f"{name}: mean Dice {sum(dice) / len(dice):.2f}"
    draw_case(path, image, truth.voxels, prediction, labels.names, title=title)


if __name__ == "__main__":
    main()
