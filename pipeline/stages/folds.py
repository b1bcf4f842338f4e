"""Cross-validation: every training case segmented by the model that has not seen it, and all of them scored."""

from collections.abc import Sequence

from pipeline.config.config import Config
from pipeline.errors import UserError
from pipeline.log import listed
from pipeline.model import read_facts
from pipeline.stages.data import every_case_of
from pipeline.stages.evaluate import Pair, score_pairs
from pipeline.stages.infer import Scan, predict_scans
from pipeline.stages.predictions import prediction_names
from pipeline.stages.train import split
from pipeline.work import Outcome, WorkFolder


def run(config: Config) -> Outcome:
    """Segment the cases that each fold held out with that fold's model, on their CT's own grid, and score all of them.

    Predictions go to `<work>/folds/fold<k>`, scores of each fold and over all to `<work>/folds/evaluate`.
    Raises UserError where a fold is not trained to its end, or its model has seen a case that the fold holds out.
    """
    work = WorkFolder(config.work)
    found = every_case_of(config)
    by_name, file_of = {case.name: case for case in found}, prediction_names(found)
    splits = [split(with_fold(config, fold)) for fold in range(config.data.folds)]
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
    if not (folder / "done.json").exists():
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
