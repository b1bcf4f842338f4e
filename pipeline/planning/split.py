"""How many folds there are, and which cases each of them holds out."""

from collections.abc import Collection, Mapping, Sequence

from pipeline.dataset.cases import Case
from pipeline.dataset.folds import fold_of
from pipeline.planning.choice import Choice

FOLDS = 5


def split_choices(
    cases: Sequence[Case], present: Mapping[str, Collection[int]], folds: int | None, seed: int
) -> dict[str, Choice]:
    """Return data.folds, or train.fold where nothing can be held out.

    cases: those whose split is not test. present: the class indices that each case has. folds: as given, None is 5, or
    as many as there are patients. Raises UserError where more folds are given than there are patients.
    """
    named = [case.name for case in cases if case.split == "validation"]
    if named:
        return {"train.fold": Choice(0, f"the data set names its validation cases itself: {', '.join(named)}")}
    patients = len({case.patient for case in cases})
    if patients == 1 and folds is None:
        return {"train.fold": Choice("all", "all cases are of one patient: nothing can be held out")}
    number = folds or min(FOLDS, patients)
    fold = fold_of(cases, number, seed, present)
    why = f"by patient ({patients}), so that every class is spread over them; train.fold=0 holds out those of fold 0:"
    lists = [f"  {held}: {', '.join(name for name in sorted(fold) if fold[name] == held)}" for held in range(number)]
    return {"data.folds": Choice(number, "\n".join([why, *lists]))}
