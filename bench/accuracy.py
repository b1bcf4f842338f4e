"""Accuracy in a given time, from raw NIfTI to predictions, on data of the user's: ours, and scores beside nnU-Net's.

python bench/accuracy.py run DATA OUT --config configs/head_neck_half_hour.yaml --processes 2 --seed 0
python bench/accuracy.py run DATA OUT --config configs/head_neck.yaml --fold 1 --set train.lr=3e-3
python bench/accuracy.py score DATA OUT... --against OUT... --tolerance 5
python bench/accuracy.py score DATA OUT... --config configs/mine.yaml

DATA holds images/, labels/ and dataset.json. Its last `--test` cases by name are predicted, with a network that has
seen the others; with `--fold K` (0 to 4) they are not touched: of the others every fifth, from the K-th on, is
predicted and the rest trains. `run` prepares, trains and predicts by the stage scripts and writes OUT/seconds.json;
what it prepared is kept in OUT/work. `bench/accuracy_nnunet.py` does the same with nnU-Net. `score` compares folders of
predictions with the labels, by the classes of `--config`; folders of one side are its seeds, whose scores are averaged
case by case. A class counts in a case where all folders have a score for it: one that the truth lacks only where all
predicted it. Between two sides: the mean difference over cases of the mean over classes, and its 95 % interval
(percentiles of 10,000 bootstrap samples of cases).
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

sys.path.pop(0)  # this folder, whose monai.py is not the library
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np

from bench.accuracy_cases import ENDING, FOLDS, case_names, split
from bench.spread import with_spread
from pipeline.files import read_json, write_json
from pipeline.log import table

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = 10_000  # of the bootstrap
MEASURES = {"dice": "Dice", "hd95_mm": "HD95 mm", "nsd": "NSD"}
CONFIG = ROOT / "configs" / "head_neck.yaml"

Scores = dict[str, dict[str, dict[str, float]]]  # measure -> class -> case -> score


def main() -> None:
    """Do what the first word says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="prepare, train and predict")
    run.add_argument("data", type=Path, metavar="DATA")
    run.add_argument("out", type=Path, metavar="OUT", help="folder of the predictions")
    run.add_argument("--config", type=Path, required=True, help="YAML file of the recipe")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--fold", type=int, choices=range(FOLDS), help="of the training cases; default: the test cases")
    run.add_argument("--test", type=int, default=10, help="cases that are left out at the end (default 10)")
    run.add_argument("--processes", type=int, default=1, help="that train together, by torchrun (default 1)")
    run.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the recipe")
    run.set_defaults(do=run_recipe)
    score = commands.add_parser("score", help="compare predictions with labels")
    score.add_argument("data", type=Path, metavar="DATA")
    score.add_argument("ours", type=Path, nargs="+", metavar="OUT", help="folders of predictions, one a seed")
    score.add_argument("--against", type=Path, nargs="+", metavar="OUT", help="folders of the other side")
    score.add_argument("--config", type=Path, default=CONFIG, help="YAML file with the classes (default: head_neck's)")
    score.add_argument("--tolerance", type=float, default=5.0, metavar="MM", help="of NSD (default 5)")
    score.set_defaults(do=show_scores)
    arguments = parser.parse_args()
    arguments.do(arguments)


def run_recipe(arguments: argparse.Namespace) -> None:
    """Take the raw cases to predictions and write down what each stage took."""
    began = time.monotonic()
    trained_on, predicted = split(arguments.data, arguments.test, arguments.fold)
    left_out = sorted(set(case_names(arguments.data)) - set(trained_on))
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    keys = [
        f"work={out / 'work'}", f"data.source={arguments.data.resolve()}", "train.fold=all", f"seed={arguments.seed}",
        *arguments.set,
    ]  # fmt: skip
    of_stage = {name: f"data.exclude=[{','.join(left_out)}]" for name in ("prepare", "train")}
    seconds = {}
    with tempfile.TemporaryDirectory() as images:
        for case in predicted:
            (Path(images) / f"{case}{ENDING}").symlink_to((arguments.data / "images" / f"{case}{ENDING}").resolve())
        for name, own in (of_stage | {"infer": f"infer.input={images}"}).items():
            processes = arguments.processes if name == "train" else 1
            seconds[name] = stage(name, arguments.config, [*keys, own], processes)
    for prediction in (out / "work" / "predict").glob(f"*{ENDING}"):
        prediction.rename(out / prediction.name)
    done = read_json(out / "work" / "train" / "all" / "done.json")
    whole = time.monotonic() - began
    write_json(out / "seconds.json", {**seconds, "whole": whole, "steps": done["step"], "seed": arguments.seed})
    print(f"{out}: {done['step']} steps, {whole / 60:.1f} minutes", seconds)


def stage(name: str, config: Path, keys: Sequence[str], processes: int = 1) -> float:
    """Run a stage script, its log on the terminal, and return the seconds that it took.

    processes: that share it, each with its part of the cores.
    """
    began = time.monotonic()
    environment = dict(os.environ)
    words = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), str(config), *keys]
    if processes > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
        words[1:1] = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    done = subprocess.run(words, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}")
    return time.monotonic() - began


def show_scores(arguments: argparse.Namespace) -> None:
    """Print scores by class of each side, and the paired difference of two."""
    sides = {"ours": arguments.ours} | ({"against": arguments.against} if arguments.against else {})
    found = {
        side: [scores_of(folder, arguments.data, arguments.config, arguments.tolerance) for folder in folders]
        for side, folders in sides.items()
    }
    every = [scores for seeds in found.values() for scores in seeds]
    of_side = {side: [scored_in(every, scores) for scores in seeds] for side, seeds in found.items()}
    for measure, heading in MEASURES.items():
        classes = of_side["ours"][0][measure]
        if not classes:
            sys.exit(f"{heading}: no class of any case has a score in every folder; give folders of the same cases.")
        rows = []
        for side, seeds in of_side.items():
            by_class = [[fmean(seed[measure][name].values()) for seed in seeds] for name in classes]
            whole = [fmean(each) for each in zip(*by_class, strict=True)]
            rows.append([side, str(len(seeds)), *map(with_spread, [*by_class, whole])])
        rows.append(["cases", "", *(str(len(cases)) for cases in classes.values()), ""])
        table(heading, ["", "seeds", *classes, "mean"], rows)
        if len(of_side) == 2:
            ours, theirs = (by_case(seeds, measure) for seeds in of_side.values())
            low, high = interval(ours - theirs)
            print(
                f"{heading}: {np.mean(ours - theirs):+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, paired by case\n"
            )


def scores_of(folder: Path, data: Path, config: Path, tolerance_mm: float) -> Scores:
    """Return the scores of a folder of predictions, by the evaluate stage."""
    with tempfile.TemporaryDirectory() as temporary:
        truth, predictions = Path(temporary) / "truth", Path(temporary) / "predictions"
        truth.mkdir(), predictions.mkdir()
        for path in folder.glob(f"*{ENDING}"):
            (predictions / path.name).symlink_to(path.resolve())
            (truth / path.name).symlink_to((data / "labels" / path.name).resolve())
        keys = [
            f"work={temporary}/work", f"data.source={data.resolve()}", f"evaluate.truth={truth}",
            f"evaluate.prediction={predictions}", f"evaluate.tolerance_mm={tolerance_mm}",
        ]  # fmt: skip
        stage("evaluate", config, keys)
        with (Path(temporary) / "work" / "evaluate" / "cases.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    scores: Scores = {measure: {} for measure in MEASURES}
    for row in rows:
        if row["metric"] in MEASURES and row["value"]:
            scores[row["metric"]].setdefault(row["label"], {})[row["case"]] = float(row["value"])
    return scores


def scored_in(every: Sequence[Scores], scores: Scores) -> Scores:
    """Return the scores of classes in cases that every folder has a score for; a class without any is left out."""
    kept = {
        measure: {
            name: {
                case: score
                for case, score in cases.items()
                if all(case in each[measure].get(name, ()) for each in every)
            }
            for name, cases in classes.items()
        }
        for measure, classes in scores.items()
    }
    return {measure: {name: cases for name, cases in classes.items() if cases} for measure, classes in kept.items()}


def by_case(seeds: Sequence[Scores], measure: str) -> np.ndarray:
    """Return the mean over seeds and scored classes of each case that has one, (cases,) in order of their names."""
    of_case: dict[str, list[float]] = {}
    for seed in seeds:
        for scores in seed[measure].values():
            for case, score in scores.items():
                of_case.setdefault(case, []).append(score)
    return np.array([fmean(of_case[case]) for case in sorted(of_case)], np.float64)


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean by bootstrap over cases."""
    drawn = np.random.default_rng(0).choice(differences, (SAMPLES, len(differences)))
    low, high = np.percentile(drawn.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
