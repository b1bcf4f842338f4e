"""Score predictions against the truth, and say what the scores are together."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.config import Config
from pipeline.dataset.cases import Case, leave_out
from pipeline.dataset.checks import load_label, said_of
from pipeline.dataset.layouts import declared_labels, read_labels
from pipeline.errors import UserError
from pipeline.files import hash_json, read_json, write_json
from pipeline.formats.dispatch import EXPECTED, files_in, read_label, stamps_of, stem, written_name
from pipeline.labels import Labels
from pipeline.log import listed, log, table
from pipeline.metrics.score import METRICS, Score, score_case
from pipeline.metrics.summary import summarise, summarise_groups
from pipeline.processes import workers_of
from pipeline.report.tables import cell, write_csv
from pipeline.stages.data import every_case_of, labels_of
from pipeline.stages.predictions import prediction_names
from pipeline.work import Outcome, Unit, WorkFolder, run_units

FORMAT = 1  # of the file of scores of a case; a new number scores every case again
COLUMNS = ("case", "label", "metric", "value", "state")
HEAD = ("Dice", "IoU", "HD95 mm", "NSD", "detected", "false alarms")
DIGITS = {"dice": 3, "iou": 3, "hd95_mm": 1, "nsd": 3}
UNGROUPED = "(no group)"


@dataclass(frozen=True)
class Pair:
    """A case with its truth, and the file of its prediction, which may not be there."""

    case: Case
    prediction: Path

    @property
    def truth(self) -> Path:
        """The file of the truth; of masks their folder."""
        files = self.truth_files()
        return files["label"] if "label" in files else next(iter(files.values())).parent

    def truth_files(self) -> dict[str, Path]:
        """Return the files that the truth is read from by role: the label map, or masks and the CT they lie on."""
        return {role: path for role, path in self.case.files().items() if role != "image" or self.case.has_masks}


@dataclass(frozen=True)
class Rules:
    """What scores depend on beside the files.

    targets: region name -> the class indices whose union is scored, or None, where each class is scored alone.
    overlap: classes whose mask files may overlap, see `load_label`.
    tolerance_mm: distance up to which the normalised surface Dice forgives.
    """

    labels: Labels
    targets: Mapping[str, Sequence[int]] | None
    overlap: tuple[str, ...]
    tolerance_mm: float


def run(config: Config) -> Outcome:
    """Score each case as a unit, and write cases.csv and summary.json over all of them into the work folder.

    Raises UserError where there is nothing to compare.
    """
    pairs = find_pairs(config)
    group_of = {name: pair.case.group for name, pair in pairs.items()}
    return score_pairs(config, pairs, choose_labels(config, pairs), group_of, WorkFolder(config.work).evaluate)


def score_pairs(
    config: Config, pairs: Mapping[str, Pair], labels: Labels, group_of: Mapping[str, str], folder: Path
) -> Outcome:
    """Score each case as a unit of the stage in `folder`, with cases.csv and summary.json over all of them there.

    group_of: the group of each case by name, "" where it has none; a table shows the mean of each.
    A case that fails, for want of a prediction or because its prediction cannot be used, counts as missed in every
    class or region that its truth holds, and summary.json names it under "incomplete": what is not there improves no
    mean.
    """
    rules = Rules(labels, choose_targets(config, labels), config.data.overlap, config.evaluate.tolerance_mm)
    units = [_unit(name, pair, folder, rules) for name, pair in pairs.items()]
    make = partial(_score_unit, pairs=pairs, rules=rules)
    workers = workers_of(config.evaluate.workers)

    def report(failed: Collection[str] = ()) -> None:
        scores: list[Score] = []
        for unit in units:
            if unit.name in failed:
                scores += _score_as_missed(pairs[unit.name].case, rules)
            else:
                scores += [Score.from_json(score) for score in read_json(unit.output)["scores"]]
        _report(folder, scores, group_of, tuple(failed), rules)

    outcome = run_units(folder, units, make, workers=workers, gathered=report)
    if outcome.failed:
        report(outcome.failed)
    return outcome


def find_pairs(config: Config) -> dict[str, Pair]:
    """Return each case with its prediction by name: of the two folders given, else of the test cases.

    Predictions are found by the name that infer gives them, whatever their format; one that has no truth is left out
    with a warning. Cases in `data.exclude` are left out.
    """
    chosen = config.evaluate
    prediction_folder = chosen.prediction or WorkFolder(config.work).predict
    if not prediction_folder.is_dir():
        raise UserError(f"{prediction_folder}: no such folder of predictions; run infer, or set evaluate.prediction.")
    predictions = files_in(prediction_folder)
    named = _truths_in(chosen.truth) if chosen.truth else _test_truths(config)
    expected = {stem(Path(name)) or name: name for name in named}
    pairs = {
        named[name].name: Pair(named[name], predictions.get(key, prediction_folder / name))
        for key, name in expected.items()
        if named[name].name not in config.data.exclude
    }
    if not any(pair.prediction.exists() for pair in pairs.values()):
        raise UserError(
            f"{prediction_folder}: none of its {len(predictions)} label files is named as one of the {len(pairs)} "
            f"cases to be scored ({listed(pairs)}); run infer, or set evaluate.truth and evaluate.prediction."
        )
    strange = sorted(set(predictions) - set(expected))
    if strange:
        log.warning("%s: left out, as there is no truth for them: %s", prediction_folder, listed(strange))
    return pairs


def choose_labels(config: Config, pairs: Mapping[str, Pair]) -> Labels:
    """Return the classes to score: of the config, else of a dataset.json (in the truth's folder, in the one above it,
    in data.source), else one for each value found.
    """
    if config.labels is not None:
        return config.labels.build()
    if config.evaluate.truth is None:
        return labels_of(config)
    beside = [declared_labels(folder) for folder in (config.evaluate.truth, config.evaluate.truth.absolute().parent)]
    source = [read_labels(config.data.source)] if config.data.source and not any(beside) else []
    described = [labels for labels in (*beside, *source) if labels is not None]
    if described:
        return described[0]
    files = [path for pair in pairs.values() for path in (pair.truth, pair.prediction) if path.exists()]
    return _labels_found(files)


def choose_targets(config: Config, labels: Labels) -> dict[str, list[int]] | None:
    """Return the class indices of each region where a head of regions decided on them, else None."""
    if config.head.kind != "regions" or not labels.regions:
        return None
    return {region.name: labels.indices_of(region.classes, "labels.regions") for region in labels.regions}


def _truths_in(folder: Path) -> dict[str, Case]:
    """Return the label files in the folder `evaluate.truth` as cases, by the name of their predictions."""
    found = files_in(folder) if folder.is_dir() else {}
    if not found:
        raise UserError(f"evaluate.truth: {folder} is no folder that holds {EXPECTED} label files; give one.")
    return {written_name(path): Case(name, path, path, name, "test") for name, path in found.items()}


def _test_truths(config: Config) -> dict[str, Case]:
    """Return the test cases that have a truth, by the name of their predictions."""
    cases = every_case_of(config)
    names = prediction_names(cases)
    tests = [case for case in leave_out(cases, config.data.exclude) if case.split == "test"]
    without = [case.name for case in tests if case.label is None]
    if without:
        log.warning("left out, as these test cases have no label: %s", listed(without))
    truths = {names[case.name]: case for case in tests if case.label is not None}
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


def _unit(name: str, pair: Pair, folder: Path, rules: Rules) -> Unit:
    """Return the unit of a case; its key tells whether it must be scored again."""
    files = {**pair.truth_files(), "prediction": pair.prediction}
    key = {
        "format": FORMAT,
        "files": stamps_of(files),
        "labels": rules.labels.to_json(),
        "overlap": rules.overlap if pair.case.has_masks else (),
        "tolerance_mm": rules.tolerance_mm,
    }
    if rules.targets is not None:
        key["targets"] = rules.targets
    return Unit(name, hash_json(key), folder / "cases" / f"{name}.json")


def _score_unit(unit: Unit, temporary: Path, *, pairs: Mapping[str, Pair], rules: Rules) -> dict[str, Any] | None:
    """Score one case and write its scores."""
    pair = pairs[unit.name]
    if not pair.prediction.exists():
        raise UserError(f"{pair.prediction}: no prediction for {pair.truth}; predict it, or leave the case out.")
    truth, prediction = load_label(pair.case, rules.labels, rules.overlap), read_label(pair.prediction)
    if not truth.grid.matches(prediction.grid):
        raise UserError(
            f"{pair.prediction} lies on another grid than {pair.truth}: {prediction.grid.describe()} against "
            f"{truth.grid.describe()}; bring the prediction onto the grid of the truth."
        )
    with said_of(pair.prediction, pair.case):
        encoded = rules.labels.encode(prediction.voxels)
    scores = score_case(
        truth.voxels,
        encoded,
        truth.grid.spacing_mm,
        rules.labels,
        targets=rules.targets,
        case=unit.name,
        tolerance_mm=rules.tolerance_mm,
    )
    write_json(temporary, {"format": FORMAT, "case": unit.name, "scores": [score.to_json() for score in scores]})
    return None


def _score_as_missed(case: Case, rules: Rules) -> list[Score]:
    """Score a case as if nothing had been predicted; no scores where its truth cannot be used either."""
    try:
        truth = load_label(case, rules.labels, rules.overlap)
    except UserError:
        return []  # its sentence is what the unit failed with
    return score_case(
        truth.voxels,
        np.zeros_like(truth.voxels),
        truth.grid.spacing_mm,
        rules.labels,
        targets=rules.targets,
        case=case.name,
    )


def _report(
    folder: Path, scores: Sequence[Score], group_of: Mapping[str, str], failed: Sequence[str], rules: Rules
) -> None:
    """Write cases.csv and summary.json, and print the tables."""
    summary = {**summarise(scores), "tolerance_mm": rules.tolerance_mm, "metrics": METRICS, "incomplete": list(failed)}
    groups = summarise_groups(scores, group_of)
    columns = (*COLUMNS, "group") if groups else COLUMNS
    if groups:
        summary["groups"] = groups
    rows = [[{**score.to_json(), "group": group_of[score.case]}[column] for column in columns] for score in scores]
    write_csv(folder / "cases.csv", columns, rows)
    write_json(folder / "summary.json", summary)
    if not scores:
        return
    target = "class" if rules.targets is None else "region"
    table(f"{summary['cases']} cases, mean (mean over detected)", (target, *HEAD), _table_rows(summary))
    if groups:
        lines = [[name or UNGROUPED, str(group["cases"]), *_means_of(group)] for name, group in groups.items()]
        table("the same mean over the cases of each group", ("group", "cases", *HEAD), lines)
    if failed:
        log.warning("incomplete: counted as missed wherever the truth could be read: %s", listed(failed))
    log.info("scores of each case: %s; summary: %s", folder / "cases.csv", folder / "summary.json")


def _table_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Return the lines of the console table: a class or region each, then the mean."""
    rows = []
    for name, label in summary["labels"].items():
        states = label["states"]
        means = [f"{cell(label[m]['mean'], d)} ({cell(label[m]['detected_mean'], d)})" for m, d in DIGITS.items()]
        detected = f"{states['both']} of {states['both'] + states['missed']}"
        rows.append([name, *means, detected, str(states["false_alarm"])])
    return [*rows, ["mean over cases", *_means_of(summary)]]


def _means_of(summary: Mapping[str, Any]) -> list[str]:
    """Return the cells of a line of means over cases: a cell for each column of HEAD."""
    means = [f"{cell(summary['mean'][m], d)} ({cell(summary['detected_mean'][m], d)})" for m, d in DIGITS.items()]
    alarms = sum(label["states"]["false_alarm"] for label in summary["labels"].values())
    return [*means, f"{summary['detected_count']} of {summary['truth_count']}", str(alarms)]
