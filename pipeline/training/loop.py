"""The run: steps, validation, the best model, and a state to continue from."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from pipeline.config.train import TrainSection
from pipeline.errors import Interrupted
from pipeline.log import log
from pipeline.sampling.loader import Batch
from pipeline.training.checkpoint import State, save_state
from pipeline.training.optimise import learning_rate, optimiser_tensors, restore_optimiser
from pipeline.training.recorder import Recorder
from pipeline.training.step import Step
from pipeline.training.stop import StopRequest
from pipeline.training.validate import Validation

PARTS = ("net/", "optimiser/")  # of the saved tensors' names
MEASURED_STEPS = 20  # after which train.minutes becomes a step count


@dataclass(frozen=True)
class Progress:
    """How far a run has come. steps: its length, None until train.minutes has been turned into one."""

    steps: int | None
    step: int = 0
    validated: int = 0
    best_dice: float | None = None
    best_step: int = 0
    stale_validations: int = 0
    seconds: float = 0.0


class Loop:
    """A run from wherever it stands to its end.

    batches: (first step, step to stop before) -> the batches of these steps. validate: scores of the held-out volumes, None where
    none are held out. keep: writes the model folder, given the step and the Dice it was chosen by.
    """

    def __init__(
        self, step: Step, train: TrainSection, seed: int, states: Path, recorder: Recorder, *,
        batches: Callable[[int, int], Iterator[Batch]],
        validate: Callable[[Callable[[], None]], Validation] | None,
        keep: Callable[[int, float | None], None],
    ) -> None:  # fmt: skip
        self.step, self.train, self.seed, self.states, self.recorder = step, train, seed, states, recorder
        self.batches, self.validate, self.keep = batches, validate, keep
        self.progress = Progress(steps=None if train.minutes else train.steps)
        self.stream: Iterator[Batch] | None = None
        self.saved_at = time.monotonic()

    def resume(self, saved: State) -> None:
        """Go on from a saved state."""
        tensors = saved.tensors.items()
        pick = {part: {k.removeprefix(part): v for k, v in tensors if k.startswith(part)} for part in PARTS}
        self.step.net.load_state_dict(pick["net/"])
        restore_optimiser(self.step.net, self.step.optimiser, pick["optimiser/"])
        self.step.scaler.load_state_dict(saved.facts["scaler"])
        self.progress = Progress(**saved.facts["progress"])

    def save(self) -> None:
        """Write the state after the last finished step."""
        tensors = {f"net/{k}": v for k, v in self.step.net.state_dict().items()}
        tensors |= {f"optimiser/{k}": v for k, v in optimiser_tensors(self.step.net, self.step.optimiser).items()}
        facts = {"progress": asdict(self.progress), "scaler": self.step.scaler.state_dict()}
        facts["amp"] = None if self.step.amp is None else str(self.step.amp).removeprefix("torch.")
        save_state(self.states, State(self.progress.step, tensors, facts))
        self.saved_at = time.monotonic()

    def run(self) -> Progress:
        """Train to the end and return how it went. Raises Interrupted once a requested stop has saved its state."""
        with StopRequest() as stop:
            try:
                while not self.finished():
                    self._steps(stop)
                self.save()
            except Interrupted:
                self.save()
                raise
        return self.progress

    def finished(self) -> bool:
        """True where the last step is done, or patience has run out."""
        progress = self.progress
        if self.train.patience is not None and progress.stale_validations >= self.train.patience:
            return True
        return progress.steps is not None and progress.step >= progress.steps and not self._validation_due()

    def _steps(self, stop: StopRequest) -> None:
        """Take steps up to the next validation, and validate."""
        while not self._validation_due() and not self.finished():
            stop.check()
            self._one()
            self._turn_minutes_into_steps()
            self._save_if_due()
        if self._validation_due():
            self._validate(stop)

    def _next_batch(self) -> Batch:
        """Return the batch of the next step, from a stream that goes on over validations up to the end of the run."""
        if self.stream is None:
            first = self.progress.step + 1
            last = self.progress.steps or max(MEASURED_STEPS, first)
            self.stream = self.batches(first, last + 1)
        return next(self.stream)

    def _one(self) -> None:
        """Take one step and record it."""
        number = self.progress.step + 1
        began = time.perf_counter()
        batch = self._next_batch()
        waited = time.perf_counter() - began
        torch.manual_seed(self.seed * 1_000_003 + number)  # dropout depends on the step alone, so no state is saved
        lr = learning_rate(number, self.progress.steps, self.train)
        result = self.step(number, batch, lr)
        spent = time.perf_counter() - began
        self.progress = replace(self.progress, step=number, seconds=self.progress.seconds + spent)
        self.recorder.step(number, self.progress.steps, batch, result, lr=lr, wait_s=waited, step_s=spent)

    def _save_if_due(self) -> None:
        every = self.train.save_every_steps
        minutes = (time.monotonic() - self.saved_at) / 60
        if (every and self.progress.step % every == 0) or minutes >= self.train.save_every_minutes:
            self.save()

    def _turn_minutes_into_steps(self) -> None:
        """Set the length of a run that was given in minutes, once enough steps were timed."""
        if self.progress.steps is None and self.progress.step >= MEASURED_STEPS and self.train.minutes:
            each = self.progress.seconds / self.progress.step
            steps = max(self.progress.step, round(self.train.minutes * 60 / each))
            self.progress = replace(self.progress, steps=steps)
            self.stream = None
            log.info("train.minutes=%g at %.3g s a step: %d steps", self.train.minutes, each, steps)

    def _validation_due(self) -> bool:
        step = self.progress.step
        ends = step == self.progress.steps or (step > 0 and step % self.train.validate_every_steps == 0)
        return ends and self.progress.validated < step

    def _validate(self, stop: StopRequest) -> None:
        """Score the held-out volumes and keep the model if it is the best; without any, keep the latest."""
        step = self.progress.step
        if self.validate is None:
            self.keep(step, None)
            self.progress = replace(self.progress, validated=step)
            return
        result = self.validate(stop.check)
        self.recorder.validation(step, result)
        best = self.progress.best_dice
        if best is None or result.mean > best:
            self.keep(step, result.mean)
            self.progress = replace(self.progress, best_dice=result.mean, best_step=step, stale_validations=0)
        else:
            self.progress = replace(self.progress, stale_validations=self.progress.stale_validations + 1)
        self.progress = replace(self.progress, validated=step)
