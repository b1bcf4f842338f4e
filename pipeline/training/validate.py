"""Scores of whole held-out volumes, through the code that users run."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.config.infer import InferSection
from pipeline.errors import Interrupted
from pipeline.inference.predict import Predict, predictor
from pipeline.inference.segment import segment
from pipeline.model import ModelFacts
from pipeline.monitor.symptoms.window import mean
from pipeline.report.overlay import overlay_png
from pipeline.store.reader import PreparedCase
from pipeline.training.distributed import NOBODY_ELSE, Ranks
from pipeline.training.scored_cases import ScoredCases
from pipeline.training.volume_scores import VolumeScores, partners_of, score_volume
from pipeline.volume.volume import Volume

DRAWN_CASES = 2  # the first held-out ones, at every validation


@dataclass(frozen=True, eq=False)
class Validation:
    """Scores of the held-out cases.

    dice: mean over cases by target of the head, a class or region, NaN where no case has it, nor any prediction.
    mean: over cases of the mean over their targets; NaN where no target is anywhere.
    overlays: PNGs of the first cases, by name, see `report.overlay`.
    The others are as in `monitor.checkup.Checkup`; NaN where there is nothing to tell.
    """

    dice: dict[str, float]
    mean: float
    overlays: Mapping[str, bytes]
    present_dice: dict[str, float] = field(default_factory=dict)
    near_dice: dict[str, float] = field(default_factory=dict)
    partner_dice: dict[str, float] = field(default_factory=dict)
    truth_share: dict[str, float] = field(default_factory=dict)
    predicted_share: dict[str, float] = field(default_factory=dict)
    cases: dict[str, float] = field(default_factory=dict)


def validate(
    net: nn.Module, cases: Sequence[PreparedCase], facts: ModelFacts, infer: InferSection, device: torch.device,
    check: Callable[[], None], known: ScoredCases | None = None, *, ranks: Ranks = NOBODY_ELSE,
) -> Validation:  # fmt: skip
    """Segment every case (at least one) on the training grid and score it by Dice; each of several ranks its share.

    check: called before every group of windows, where there are several ranks before every case; it may raise to end
    the validation, on all of them. known: what rank 0 knows already, which is not found out again.
    """
    predict = predictor(net, facts.head, infer, device)
    if ranks.count == 1:
        predict = interruptible(predict, check)
    partners = partners_of(facts.head)
    drawn = {case.name for case in cases[:DRAWN_CASES]}

    def scored(case: PreparedCase) -> dict[str, Any]:
        """Return what is kept of a case."""
        image, truth = case.read((0, 0, 0), case.grid.shape_vox)
        volume = Volume(image, case.grid)
        prediction = segment(volume, predict, facts, infer).voxels
        scores = score_volume(truth, prediction, facts.head, facts.patch_vox, partners)
        if case.name not in drawn:
            return {"scores": scores.to_json()}
        overlay = overlay_png(volume, truth, prediction, facts.labels.names, facts.intensity.window_hu)
        return {"scores": scores.to_json(), "overlay": b64encode(overlay).decode()}

    ranks.take_buffers(net)
    known = known or ScoredCases()
    known.cases = ranks.of_first(known.cases)
    missing = [case for case in cases if case.name not in known.cases]
    try:
        for first in range(0, len(missing), ranks.count):
            if ranks.count > 1:
                check()
            mine = missing[first + ranks.number : first + ranks.number + 1]
            told = ranks.gather({case.name: scored(case) for case in mine})
            known.add({name: found for one in told for name, found in one.items()})
    except Interrupted:
        known.write()
        raise
    return gathered(
        {case.name: VolumeScores.from_json(known.cases[case.name]["scores"]) for case in cases},
        ("background", *facts.labels.names),
        {name: b64decode(one["overlay"]) for name, one in known.cases.items() if "overlay" in one},
    )


def gathered(scores: Mapping[str, VolumeScores], classes: Sequence[str], overlays: Mapping[str, bytes]) -> Validation:
    """Return the scores of all cases together, and the pictures. classes: their names, background included."""

    def mean_by_target(what: Callable[[VolumeScores], dict[str, float]]) -> dict[str, float]:
        found = [what(case) for case in scores.values()]
        return {name: mean(case[name] for case in found) for name in found[0]}

    def share(voxels: Iterable[Sequence[int]]) -> dict[str, float]:
        whole = np.sum(list(voxels), axis=0)
        return dict(zip(classes, (whole / max(1, whole.sum())).tolist(), strict=True))

    by_case = {name: mean(case.dice.values()) for name, case in scores.items()}
    return Validation(
        dice=mean_by_target(attrgetter("dice")), present_dice=mean_by_target(attrgetter("present_dice")),
        near_dice=mean_by_target(attrgetter("near_dice")), partner_dice=mean_by_target(attrgetter("partner_dice")),
        truth_share=share(case.truth_voxels for case in scores.values()),
        predicted_share=share(case.predicted_voxels for case in scores.values()), cases=by_case,
        mean=mean(by_case.values()), overlays=overlays,
    )  # fmt: skip


def interruptible(predict: Predict, check: Callable[[], None]) -> Predict:
    """Return `predict` with a call of `check` before every group of windows."""

    def checked(windows: torch.Tensor) -> torch.Tensor:
        check()
        return predict(windows)

    return checked
