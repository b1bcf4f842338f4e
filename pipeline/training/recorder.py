"""What a run writes down as it goes: train.csv, TensorBoard, its health, and lines in the log."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch

from pipeline.device import peak_memory_bytes
from pipeline.files import flush
from pipeline.head import Head
from pipeline.log import log
from pipeline.monitor.about import markdown_table
from pipeline.monitor.board import Board
from pipeline.monitor.checkup import Checkup
from pipeline.monitor.curves import column_of, columns_of, of_step, of_validation
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.journal import CHECKUPS, EVERY_STEP_UNTIL, FINDINGS, VITALS, Journal, read_records
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.table import Table
from pipeline.monitor.vitals import Vitals
from pipeline.monitor.watchdog import LOOK_EVERY_STEPS, Watchdog
from pipeline.sampling.batch import Batch
from pipeline.sampling.statistics import Tally, count_drawn, dominant_cases
from pipeline.training.ledger import Ledger
from pipeline.training.signs import Overlap, overlap_of, strange_labels
from pipeline.training.step import StepResult
from pipeline.training.validate import Validation

NAMED_CASES = 10  # of thousands, in the log and on the board
HELD_OUT = ("dice", "present_dice", "near_dice", "partner_dice", "truth_share", "predicted_share", "cases")  # scores
MEASURED_STEPS = 50  # from the first, in which a sick run is to be told whatever is shown; later what is shown counts


def numbers(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values that are not NaN."""
    return {name: value for name, value in values.items() if not math.isnan(value)}


class Pace(NamedTuple):
    """How long the patches of a step took."""

    patches: int
    wait_s: float
    step_s: float


class Recorder:
    """Turns steps into `Vitals` and validations into `Checkup`, shows one step in `every`, lets a watchdog see them.

    parts: names of the loss's terms. cases: names of the training cases. after_step: where a resumed run goes on; what
    was written beyond it is dropped, and what was written before is seen by the watchdog. after_validation: the last
    one that stands, where that of the saved step is made again. about: texts for the board, see `monitor.about`.
    """

    def __init__(
        self, folder: Path, head: Head, parts: Sequence[str], cases: Sequence[str], device: torch.device, *,
        facts: RunFacts, every: int, after_step: int, after_validation: int | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.head, self.device, self.every = head, device, every
        self.after_step = self.last_step = after_step
        columns = columns_of(parts, head.target_names, head.labels.names)
        self.table = Table(folder / "train.csv", columns, after_step, after_validation)
        self.board = Board(folder, after_step, after_validation, about)
        self.journal = Journal(folder, facts, after_step, after_validation)
        self.watchdog = Watchdog(facts)
        self.watchdog.replay(*read_records(folder))
        self._tell(self.watchdog.standing)  # the board has it already
        self.tally = Tally(head.labels.names, cases, after_step + 1)
        self.ledger = Ledger(head.target_names)
        self.since_recorded: list[Pace] = []
        self.since_shown: list[Pace] = []

    def state(self) -> dict[str, Any]:
        """Return what `resume` goes on from, JSON values; all that was written down so far is on disk then.

        A power cut thus takes no record of a step before the state, which is on disk later. Raises OSError where the
        disk refuses it.
        """
        self.board.flush()
        for path in (self.table.path, *(self.journal.folder / name for name in (VITALS, CHECKUPS, FINDINGS))):
            with suppress(FileNotFoundError):  # removed by someone: the next record makes it again
                flush(path)
        return {"drawn": self.tally.to_json(), "ledger": self.ledger.to_json()}

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Go on counting what was drawn, and what it gave, from where a saved state stood, and say what that is."""
        self.tally, self.ledger = Tally.from_json(saved["drawn"]), Ledger.from_json(saved["ledger"])
        self._tell_samples()

    def length(self, steps: int) -> None:
        """Take note of how long the run is, which was not known when it started."""
        self.watchdog.facts = replace(self.watchdog.facts, steps=steps)
        self.journal.tell(self.watchdog.facts)

    def shows(self, step: int) -> bool:
        """Say whether a step is shown."""
        return step % self.every == 0 or step == 1

    def writes(self, step: int) -> bool:
        """Say whether a step is written down."""
        return step <= EVERY_STEP_UNTIL or self.shows(step)

    def measures(self, step: int) -> bool:
        """Say whether every sign of a step is measured."""
        return step <= MEASURED_STEPS or self.shows(step)

    def step(
        self, step: int, steps: int | None, batch: Batch, result: StepResult, *, lr: float, wait_s: float,
        step_s: float, last: bool = False,
    ) -> None:  # fmt: skip
        """Record one step. last: whether it ended the run."""
        shown = self.shows(step) or last
        drawn = count_drawn((each.label for each in result.drawn), self.head.labels)
        cases = tuple(each.case for each in result.drawn)
        self.tally.add(drawn, cases)
        looked_at = shown or (step <= MEASURED_STEPS and step % LOOK_EVERY_STEPS == 0)
        overlap = self._overlap(batch, result) if looked_at else None
        if not last:
            self.ledger.add(cases, result.losses, overlap)
        self.last_step = step
        for pace in (self.since_recorded, self.since_shown):
            pace.append(Pace(len(cases), wait_s, step_s))
        if last or self.writes(step):
            vitals = replace(
                self._vitals(step, batch, result, lr, drawn, overlap), since_start=step - self.after_step, ended=last
            )
            self._record(vitals, last=last)
            if shown:
                self._show(vitals, steps)

    def _overlap(self, batch: Batch, result: StepResult) -> Overlap | None:
        """Compare the prediction with the labels, where there is one that says anything."""
        if result.prediction is None or not math.isfinite(result.logits_max - result.logits_min):
            return None
        return overlap_of(result.prediction, batch.labels, self.head)

    def _vitals(
        self, step: int, batch: Batch, result: StepResult, lr: float, drawn: dict[str, int], overlap: Overlap | None
    ) -> Vitals:
        """Return the record of a step; its times are means since the last one."""
        paces, self.since_recorded = self.since_recorded, []
        return Vitals(
            step=step, loss=result.loss, parts=result.parts, losses=result.losses, lr=lr, grad_norm=result.grad_norm,
            logits_min=result.logits_min, logits_max=result.logits_max, drawn=drawn,
            predicted=overlap.predicted if overlap else {}, dice=overlap.dice if overlap else {},
            wait_s=fmean(pace.wait_s for pace in paces), step_s=fmean(pace.step_s for pace in paces),
            memory_bytes=peak_memory_bytes(self.device), cases=tuple(each.case for each in result.drawn),
            strange_labels=strange_labels(batch.labels, len(self.head.labels.names)),
            image_std=float(batch.image.std()) if self.measures(step) else None, update_share=result.update_share,
        )  # fmt: skip

    def _record(self, record: Vitals | Checkup, *, last: bool = False) -> None:
        """Write a record down, let the watchdog see it, and tell what it finds that it had not found before."""
        self.journal.add(record)
        findings = self.watchdog.see(record, last=last)
        self.journal.note(record.step, findings)
        self._tell(findings)
        if findings:
            name = "findings_of_validations" if isinstance(record, Checkup) else "findings_of_steps"
            self.board.text(name, "\n\n".join(map(in_markdown, findings)), self.last_step)

    def _tell(self, findings: Sequence[Finding]) -> None:
        """Say in the log what is wrong."""
        for finding in findings:
            log.warning("step %d: %s", self.last_step, finding)

    def _show(self, vitals: Vitals, steps: int | None) -> None:
        """Write one step to the board, the table and the log; speeds are means since the last one shown."""
        paces, self.since_shown = self.since_shown, []
        spent = sum(pace.step_s for pace in paces)
        speed = sum(pace.patches for pace in paces) / spent
        waiting = sum(pace.wait_s for pace in paces) / spent
        points = of_step(
            vitals, patches_per_second=speed, wait_share=waiting, findings=len(self.watchdog.standing),
            positive_share=self.tally.class_shares(), largest_case_share=next(iter(self.tally.case_shares().values())),
        )  # fmt: skip
        self._draw(points, vitals.step)
        parts = ", ".join(f"{name} {value:.3f}" for name, value in vitals.parts.items())
        log.info(
            "step %d/%s: loss %.4f (%s), gradient norm %.3g, logits %.3g..%.3g, %.3g patches/s, waiting %.1f %%",
            vitals.step, steps or "?", vitals.loss, parts, vitals.grad_norm, vitals.logits_min, vitals.logits_max,
            speed, 100 * waiting,
        )  # fmt: skip

    def _draw(self, points: Mapping[str, float], step: int) -> None:
        """Write points of curves to the board and to the table."""
        self.board.scalars(points, step)
        self.table.add({"step": step, **{column_of(curve): value for curve, value in points.items()}})

    def validation(self, step: int, result: Validation | None) -> None:
        """Record the scores of the held-out volumes, None where none are held out, and what training gave since the
        last time. What is not a number, and so no score, is left out.
        """
        if result is not None:
            self._show_validation(step, result)
        self._show_cases()
        held_out = {name: numbers(getattr(result, name)) if result else {} for name in HELD_OUT}
        self._record(Checkup(step, **held_out, training_dice=self.ledger.dice(), training=self.ledger.cases()))
        self.ledger.clear()

    def _show_validation(self, step: int, result: Validation) -> None:
        """Write the scores to the board, the table and the log, and the pictures to the board."""
        self._draw(of_validation(result.mean, result.dice), step)
        for case, png in result.overlays.items():
            self.board.overlay(case, png, step)
        by_target = ", ".join(f"{name} {value:.3f}" for name, value in result.dice.items())
        log.info("step %d: validation Dice %.4f (%s)", step, result.mean, by_target)

    def _show_cases(self) -> None:
        """Put on the board which cases the patches came from: the most drawn by name, of all how they are spread."""
        shares = self.tally.case_shares()
        if not shares:
            return
        title = f"The most drawn of {len(shares)} cases since step {self.tally.since_step}"
        rows = [(name, f"{share:.1%}") for name, share in islice(shares.items(), NAMED_CASES)]
        lines = markdown_table(("case", "share of all patches"), rows)
        self.board.text("cases/most_drawn", "\n".join([title, "", *lines]), self.last_step)
        self.board.histogram("cases/patches", list(self.tally.by_case.values()), self.last_step)

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
        self._tell_samples()
        self.board.close()


def in_markdown(finding: Finding) -> str:
    """Return a finding as a paragraph for the board."""
    return f"**{finding.name}** {finding.evidence}\n\n{finding.cure}"


def in_words(shares: Mapping[str, float]) -> str:
    """Return shares by name in one line."""
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
