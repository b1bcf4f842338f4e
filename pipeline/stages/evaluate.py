"""Score predictions against the truth, and say what the scores are together."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.config import Config
from pipeline.dataset.layouts import case_name, nifti_files, read_labels
from pipeline.errors import UserError
from pipeline.files import hash_json, read_json, stamp, write_json
from pipeline.labels import Labels
from pipeline.log import log, table
from pipeline.metrics.score import METRICS, Score, score_case
from pipeline.metrics.summary import summarise
from pipeline.report.tables import cell, write_csv
from pipeline.stages.data import cases_of, labels_of
from pipeline.volume.nifti import read_label
from pipeline.work import Outcome, Unit, WorkFolder, available_cores, run_units

FORMAT = 1  # of the file of scores of a case; a new number scores every case again
COLUMNS = ("case", "label", "metric", "value", "state")
HEAD = ("class", "Dice", "IoU", "HD95 mm", "NSD", "detected", "false alarms")
DIGITS = {"dice": 3, "iou": 3, "hd95_mm": 1, "nsd": 3}


@dataclass(frozen=True)
class Pair:
    """A case's two label files; `prediction` may not be there."""

    truth: Path
    prediction: Path


def run(config: Config) -> Outcome:
    """Score each case as a unit, and write cases.csv and summary.json over all of them into the work folder.

    A case that fails, for want of a prediction or because its prediction cannot be used, counts as missed in every
    class that its truth holds, and summary.json names it under "incomplete": what is not there improves no mean.
    Raises UserError where there is nothing to compare.
    """
    pairs = find_pairs(config)
    labels = choose_labels(config, pairs)
    folder = WorkFolder(config.work).evaluate
    tolerance_mm = config.evaluate.tolerance_mm
    units = [_unit(name, pair, folder, labels, tolerance_mm) for name, pair in pairs.items()]
    make = partial(_score_unit, pairs=pairs, labels=labels, tolerance_mm=tolerance_mm)
    workers = available_cores() if config.evaluate.workers == "auto" else config.evaluate.workers

    def report(failed: Collection[str] = ()) -> None:
        scores: list[Score] = []
        for unit in units:
            if unit.name in failed:
                scores += _score_as_missed(unit.name, pairs[unit.name], labels)
            else:
                scores += [Score.from_json(score) for score in read_json(unit.output)["scores"]]
        _report(folder, scores, tuple(failed), tolerance_mm)

    outcome = run_units(folder, units, make, workers=workers, gathered=report)
    if outcome.failed:
        report(outcome.failed)
    return outcome


def find_pairs(config: Config) -> dict[str, Pair]:
    """Return the pair of files of each case by name: of the two folders given, else of the test cases.

    Predictions are found by the name of the truth (or of the CT) without .nii or .nii.gz; one that has no truth is
    left out with a warning. Cases in `data.exclude` are left out.
    """
    chosen = config.evaluate
    prediction_folder = chosen.prediction or WorkFolder(config.work).predict
    if not prediction_folder.is_dir():
        raise UserError(f"{prediction_folder}: no such folder of predictions; run infer, or set evaluate.prediction.")
    predictions = nifti_files(prediction_folder)
    named = _truths_in(chosen.truth) if chosen.truth else _test_truths(config)
    pairs = {
        name: Pair(truth, predictions.get(stem, prediction_folder / f"{stem}.nii.gz"))
        for stem, (name, truth) in named.items()
        if name not in config.data.exclude
    }
    if not any(pair.prediction.exists() for pair in pairs.values()):
        raise UserError(
            f"{prediction_folder}: none of its {len(predictions)} label files is named as one of the {len(pairs)} "
            f"cases to be scored ({_listed(pairs)}); run infer, or set evaluate.truth and evaluate.prediction."
        )
    strange = sorted(set(predictions) - set(named))
    if strange:
        log.warning("%s: left out, as there is no truth for them: %s", prediction_folder, _listed(strange))
    return pairs


def choose_labels(config: Config, pairs: Mapping[str, Pair]) -> Labels:
    """Return the classes to score: of the config, else of a dataset.json (in the truth's folder, in the one above it,
    in data.source), else one for each value found.
    """
    if config.labels is not None:
        return config.labels.build()
    if config.evaluate.truth is None:
        return labels_of(config)
    folders = (config.evaluate.truth, config.evaluate.truth.absolute().parent, config.data.source)
    described = [labels for folder in folders if folder is not None and (labels := read_labels(folder)) is not None]
    if described:
        return described[0]
    files = [path for pair in pairs.values() for path in (pair.truth, pair.prediction) if path.exists()]
    return _labels_found(files)


def _truths_in(folder: Path) -> dict[str, tuple[str, Path]]:
    """Return name and label file of each case in the folder `evaluate.truth`, by what its prediction is called."""
    found = nifti_files(folder) if folder.is_dir() else {}
    if not found:
        raise UserError(f"evaluate.truth: {folder} is no folder that holds .nii or .nii.gz label files; give one.")
    return {name: (name, path) for name, path in found.items()}


def _test_truths(config: Config) -> dict[str, tuple[str, Path]]:
    """Return name and label file of each test case, by what a prediction of its CT is called."""
    tests = [case for case in cases_of(config) if case.split == "test"]
    without = [case.name for case in tests if case.label is None]
    if without:
        log.warning("left out, as these test cases have no label: %s", _listed(without))
    truths = {case_name(case.image) or case.name: (case.name, case.label) for case in tests if case.label is not None}
    if not truths:
        raise UserError(
            "data.source: the data set has no test case with a label; list some under 'test' in its dataset.json, or "
            "set evaluate.truth and evaluate.prediction."
        )
    return truths


def _labels_found(files: Sequence[Path]) -> Labels:
    """Return a class for each value but 0 in label files; a file that cannot be read is left to its unit to report."""
    found: set[int] = set()
    for path in files:
        with suppress(UserError):
            found.update(int(value) for value in np.unique(read_label(path).voxels))
    values = sorted(found - {0})
    if not values:
        raise UserError(
            "evaluate.truth: no label file that can be read holds anything but background (0); nothing can be scored."
        )
    return Labels({f"label {value}": (value,) for value in values})


def _unit(name: str, pair: Pair, folder: Path, labels: Labels, tolerance_mm: float) -> Unit:
    """Return the unit of a case; its key tells whether it must be scored again."""
    key = {
        "format": FORMAT,
        "files": [stamp(path) if path.exists() else None for path in (pair.truth, pair.prediction)],
        "labels": labels.to_json(),
        "tolerance_mm": tolerance_mm,
    }
    return Unit(name, hash_json(key), folder / "cases" / f"{name}.json")


def _score_unit(
    unit: Unit, temporary: Path, *, pairs: Mapping[str, Pair], labels: Labels, tolerance_mm: float
) -> dict[str, Any] | None:
    """Score one case and write its scores."""
    pair = pairs[unit.name]
    if not pair.prediction.exists():
        raise UserError(f"{pair.prediction}: no prediction for {pair.truth}; predict it, or leave the case out.")
    truth, prediction = read_label(pair.truth), read_label(pair.prediction)
    if not truth.grid.matches(prediction.grid):
        raise UserError(
            f"{pair.prediction} lies on another grid than {pair.truth}: {prediction.grid.describe()} against "
            f"{truth.grid.describe()}; bring the prediction onto the grid of the truth."
        )
    scores = score_case(
        _encode(pair.truth, truth.voxels, labels),
        _encode(pair.prediction, prediction.voxels, labels),
        truth.grid.spacing_mm,
        labels,
        case=unit.name,
        tolerance_mm=tolerance_mm,
    )
    write_json(temporary, {"format": FORMAT, "case": unit.name, "scores": [score.to_json() for score in scores]})
    return None


def _score_as_missed(name: str, pair: Pair, labels: Labels) -> list[Score]:
    """Score a case as if nothing had been predicted; no scores where its truth cannot be used either."""
    try:
        truth = read_label(pair.truth)
        encoded = _encode(pair.truth, truth.voxels, labels)
    except UserError:
        return []  # its sentence is what the unit failed with
    return score_case(encoded, np.zeros_like(encoded), truth.grid.spacing_mm, labels, case=name)


def _encode(path: Path, voxels: np.ndarray, labels: Labels) -> np.ndarray:
    """Map label values to class indices; what is wrong with them is said with the file."""
    try:
        return labels.encode(voxels)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _report(folder: Path, scores: Sequence[Score], failed: Sequence[str], tolerance_mm: float) -> None:
    """Write cases.csv and summary.json, and print the table."""
    rows = [[score[column] for column in COLUMNS] for score in (score.to_json() for score in scores)]
    write_csv(folder / "cases.csv", COLUMNS, rows)
    summary = {**summarise(scores), "tolerance_mm": tolerance_mm, "metrics": METRICS, "incomplete": list(failed)}
    write_json(folder / "summary.json", summary)
    if not scores:
        return
    table(f"{summary['cases']} cases, mean (mean over detected)", HEAD, _table_rows(summary))
    if failed:
        log.warning("incomplete: counted as missed wherever the truth could be read: %s", _listed(failed))
    log.info("scores of each case: %s; summary: %s", folder / "cases.csv", folder / "summary.json")


def _table_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Return the lines of the console table: a class each, then the mean."""
    rows = []
    for name, label in summary["labels"].items():
        states = label["states"]
        means = [f"{cell(label[m]['mean'], d)} ({cell(label[m]['detected_mean'], d)})" for m, d in DIGITS.items()]
        detected = f"{states['both']} of {states['both'] + states['missed']}"
        rows.append([name, *means, detected, str(states["false_alarm"])])
    means = [f"{cell(summary['mean'][m], d)} ({cell(summary['detected_mean'][m], d)})" for m, d in DIGITS.items()]
    alarms = sum(label["states"]["false_alarm"] for label in summary["labels"].values())
    detected = f"{summary['detected_count']} of {summary['truth_count']}"
    return [*rows, ["mean over cases", *means, detected, str(alarms)]]


def _listed(names: Sequence[str] | Mapping[str, Any], most: int = 8) -> str:
    """Return names as a list that stays short."""
    shown = list(names)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
