"""What a run writes down as it goes: train.csv, TensorBoard and lines in the log."""

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.device import peak_memory_bytes
from pipeline.head import Head
from pipeline.log import log
from pipeline.monitor.board import Board
from pipeline.monitor.table import Table
from pipeline.monitor.vitals import Vitals
from pipeline.sampling.batch import Batch
from pipeline.sampling.statistics import Tally, count_drawn, dominant_cases
from pipeline.training.step import StepResult
from pipeline.training.validate import Validation

NAMED_CASES = 10  # of thousands, in the log and on the board


def numbers(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values that are not NaN."""
    return {name: value for name, value in values.items() if not math.isnan(value)}


class Recorder:
    """Turns every step into `Vitals` and shows one in `every`.

    parts: names of the loss's terms. cases: names of the training cases. after_step: where a resumed run goes on; what
    was written beyond it is dropped.
    """

    def __init__(
        self, folder: Path, head: Head, parts: Sequence[str], cases: Sequence[str], device: torch.device, *,
        every: int, after_step: int,
    ) -> None:  # fmt: skip
        self.head, self.device, self.every, self.last_step = head, device, every, after_step
        columns = ["step", "loss", *(f"{name}_part" for name in parts), "lr", "grad_norm", "logits_min", "logits_max"]
        columns += ["patches_per_second", "wait_share", "memory_bytes"]
        columns += ["dice", *(f"dice {name}" for name in head.target_names)]
        self.table = Table(folder / "train.csv", columns, after_step)
        self.board = Board(folder, after_step)
        self.tally = Tally(head.labels.names, cases, after_step + 1)
        self.since_shown: list[Vitals] = []

    def resume(self, tally: Mapping[str, Any]) -> None:
        """Go on counting what was drawn from where a saved state stood, and say what that is."""
        self.tally = Tally.from_json(tally)
        self._tell_samples()

    def step(
        self, step: int, steps: int | None, batch: Batch, result: StepResult, *, lr: float, wait_s: float, step_s: float
    ) -> None:
        """Record one step."""
        shown = step % self.every == 0 or step == 1
        drawn = count_drawn(batch.draws, self.head.labels)
        vitals = Vitals(
            step=step, loss=result.loss, parts=result.parts, lr=lr, grad_norm=result.grad_norm,
            logits_min=result.logits_min, logits_max=result.logits_max, drawn=drawn,
            predicted=self._predicted(result.prediction) if shown else {}, wait_s=wait_s, step_s=step_s,
            memory_bytes=peak_memory_bytes(self.device), cases=tuple(draw.case for draw in batch.draws),
        )  # fmt: skip
        self.tally.add(drawn, vitals.cases)
        self.last_step = step
        self.since_shown.append(vitals)
        if shown:
            self._show(vitals, steps)
            self.since_shown = []

    def _predicted(self, logits: Tensor) -> dict[str, float]:
        """Return the share of voxels by class name, background included."""
        names = ("background", *self.head.labels.names)
        decided = self.head.decide(logits).flatten()
        counts = torch.bincount(decided.long(), minlength=len(names)).tolist()
        return {name: count / decided.numel() for name, count in zip(names, counts, strict=True)}

    def _show(self, vitals: Vitals, steps: int | None) -> None:
        """Write one step to the table, the board and the log; speeds are means since the last one shown."""
        spent = sum(v.step_s for v in self.since_shown)
        speed = sum(len(v.cases) for v in self.since_shown) / spent
        waiting = sum(v.wait_s for v in self.since_shown) / spent
        row = {
            "step": vitals.step, "loss": vitals.loss, **{f"{k}_part": v for k, v in vitals.parts.items()},
            "lr": vitals.lr, "grad_norm": vitals.grad_norm, "logits_min": vitals.logits_min,
            "logits_max": vitals.logits_max, "patches_per_second": speed, "wait_share": waiting,
            "memory_bytes": vitals.memory_bytes,
        }  # fmt: skip
        self.table.add(row)
        self.board.vitals(vitals)
        self.board.scalars({"speed/patches_per_second": speed, "speed/data_wait_share": waiting}, vitals.step)
        self.board.scalars({f"sample_share/{k}": share for k, share in self.tally.class_shares().items()}, vitals.step)
        self.board.scalars({"sample/largest_case_share": next(iter(self.tally.case_shares().values()))}, vitals.step)
        parts = ", ".join(f"{name} {value:.3f}" for name, value in vitals.parts.items())
        log.info(
            "step %d/%s: loss %.4f (%s), gradient norm %.3g, logits %.3g..%.3g, %.3g patches/s, waiting %.1f %%",
            vitals.step, steps or "?", vitals.loss, parts, vitals.grad_norm, vitals.logits_min, vitals.logits_max,
            speed, 100 * waiting,
        )  # fmt: skip

    def validation(self, step: int, result: Validation) -> None:
        """Record the scores of the held-out volumes; what is not a number, and so no score, is left out."""
        row = numbers({"dice": result.mean, **{f"dice {name}": value for name, value in result.dice.items()}})
        self.table.add({"step": step, **row})
        scalars = numbers({"dice/mean": result.mean, **{f"dice/{name}": value for name, value in result.dice.items()}})
        self.board.scalars(scalars, step)
        self.board.overlay("validation", result.picture, step)
        self._show_cases()
        by_target = ", ".join(f"{name} {value:.3f}" for name, value in result.dice.items())
        log.info("step %d: validation Dice %.4f (%s)", step, result.mean, by_target)

    def _show_cases(self) -> None:
        """Put on the board which cases the patches came from: the most drawn by name, of all how they are spread."""
        shares = self.tally.case_shares()
        if not shares:
            return
        lines = [f"The most drawn of {len(shares)} cases since step {self.tally.since_step}", ""]
        lines += ["| case | share of all patches |", "| --- | --- |"]
        lines += [f"| {name} | {share:.1%} |" for name, share in islice(shares.items(), NAMED_CASES)]
        self.board.text("sample/cases", "\n".join(lines), self.last_step)
        self.board.histogram("sample/patches_by_case", list(self.tally.by_case.values()), self.last_step)

    def _tell_samples(self) -> None:
        """Say how many patches each class and each case had so far, and which cases supplied very many."""
        by_case, since = self.tally.case_shares(), self.tally.since_step
        if not by_case:
            return
        log.info("positive patches by class since step %d: %s", since, in_words(self.tally.class_shares()))
        most = dict(islice(by_case.items(), NAMED_CASES))
        of_all = f"; the most drawn of {len(by_case)}" if len(by_case) > NAMED_CASES else ""
        log.info("patches by case since step %d: %s%s", since, in_words(most), of_all)
        dominant = dominant_cases(by_case)
        if dominant:
            log.info("over a tenth of all patches came from each of: %s", in_words(dominant))

    def close(self) -> None:
        """Say what was drawn, and write out what is still in memory."""
        self._show_cases()
        self._tell_samples()
        self.board.close()


def in_words(shares: Mapping[str, float]) -> str:
    """Return shares by name in one line."""
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
