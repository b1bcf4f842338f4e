"""Cross-validation: every training case segmented by the model that has not seen it, and all of them scored."""

from collections.abc import Sequence

from pipeline.config.config import Config
from pipeline.dataset.cases import Case, leave_out
from pipeline.dataset.folds import fold_count
from pipeline.errors import ExitCode, UserError
from pipeline.log import answer, listed, log
from pipeline.model import read_facts
from pipeline.stages.data import every_case_of
from pipeline.stages.evaluate import Pair, score_pairs
from pipeline.stages.infer import Scan, predict_scans
from pipeline.stages.predictions import prediction_names
from pipeline.stages.train import split
from pipeline.work import DONE, Outcome, WorkFolder


def run(config: Config, *, count: bool = False) -> Outcome | ExitCode:
    """Segment the cases that each fold held out with that fold's model, on their CT's own grid, and score all of them.

    Predictions go to `<work>/folds/fold<k>`, scores of each fold and over all to `<work>/folds/evaluate`. A data set
    that names its validation cases has one fold, which they are.
    count: only print how many folds there are.
    Raises UserError where a fold is not trained to its end, or its model has seen a case that the fold holds out.
    """
    found = every_case_of(config)
    number = number_of_folds(config, leave_out(found, config.data.exclude))
    if count:
        answer(number)
        return ExitCode.DONE
    return score_folds(config, found, number)


def number_of_folds(config: Config, cases: Sequence[Case]) -> int:
    """Return how many folds there are, and say it where that is not data.folds."""
    number = fold_count(cases, config.data.folds)
    if number < config.data.folds:
        named = sum(case.split == "validation" for case in cases)
        log.info(
            "the data set names its validation cases (%d) itself: that is one fixed split, and so one run (fold 0) in "
            "place of %d folds",
            named, config.data.folds,
        )  # fmt: skip
    return number


def score_folds(config: Config, found: Sequence[Case], number: int) -> Outcome:
    """Segment and score what each of the folds held out."""
    work = WorkFolder(config.work)
    by_name, file_of = {case.name: case for case in found}, prediction_names(found)
    splits = [split(with_fold(config, fold)) for fold in range(number)]
    held_out = [[case.name for case in cases.validation] for _, cases in splits]
    for fold, names in enumerate(held_out):
        check_unseen(work, fold, names)
    outcome = Outcome()
    pairs: dict[str, Pair] = {}
    fold_of: dict[str, str] = {}
    for fold, names in enumerate(held_out):
        folder = work.folds / f"fold{fold}"
        scans = {name: Scan(by_name[name].image, file_of[name]) for name in names}
        outcome += predict_scans(config, work.model(fold), scans, folder)
        pairs |= {name: Pair(by_name[name], folder / file_of[name]) for name in names}
        fold_of |= dict.fromkeys(names, folder.name)
    labels = splits[0][0]
    return outcome + score_pairs(config, dict(sorted(pairs.items())), labels, fold_of, work.folds / "evaluate")


def with_fold(config: Config, fold: int) -> Config:
    """Return the config of a fold."""
    return config.model_copy(update={"train": config.train.model_copy(update={"fold": fold})})


def check_unseen(work: WorkFolder, fold: int, names: Sequence[str]) -> None:
    """Refuse a fold whose training has not ended, or whose model has learnt from one of these cases."""
    folder = work.train(fold)
    if not (folder / DONE).exists():
        raise UserError(
            f"{folder}: fold {fold} is not trained to its end; run train with train.fold={fold}, or all of them with "
            "bash scripts/run_folds.sh."
        )
    learnt = set(read_facts(work.model(fold)).provenance["training_cases"])
    seen = [name for name in names if name in learnt]
    if seen:
        raise UserError(
            f"{work.model(fold)} has learnt from {listed(seen)}, which fold {fold} holds out: it was trained under "
            "other data.folds, seed or data.exclude; use those, or train again in a work folder of its own with work=."
        )
