"""The run: steps, validation, the best model, and a state to continue from."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config.train import TrainSection
from pipeline.device import circumstances, seed_draws
from pipeline.errors import Interrupted, Superseded, UserError
from pipeline.files import remove
from pipeline.log import log
from pipeline.model import weight_differences
from pipeline.monitor.symptoms.diagnose import NOT_FINITE, blame
from pipeline.monitor.symptoms.finding import Finding
from pipeline.sampling.batch import Batch
from pipeline.training.average import Average
from pipeline.training.checkpoint import State, save_facts, save_state, state_folder
from pipeline.training.notice import Notice
from pipeline.training.optimise import optimiser_tensors, restore_optimiser
from pipeline.training.owner import Owner
from pipeline.training.recorder import Recorder
from pipeline.training.schedule import learning_rate
from pipeline.training.scored_cases import FILE, ScoredCases
from pipeline.training.signs import strange_labels
from pipeline.training.step import Diverged, Drawn, Step, StepResult
from pipeline.training.stop import StopRequest
from pipeline.training.validate import Validation

PARTS = ("net/", "optimiser/", "average/")  # of the saved tensors' names
UNTIMED_STEPS = 10  # set up kernels, or compile
MEASURED_STEPS, MEASURED_S = 20, 30.0  # after which train.minutes becomes a step count
MEASURED_SHARE = 0.05  # of train.minutes, which is enough where that is less than MEASURED_S
NO_RESULT = StepResult(math.nan, {}, math.nan, math.nan, math.nan, None, ())  # of a step whose loss raised an error
SEEDS_OF_A_RANK = 2**40  # more than a run has steps
UNKNOWN_END = 10**9  # until then batches come without end


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
    """A run from wherever it stands to its end, on one rank or on each of several.

    recorder: None on all ranks but the first, which alone writes. batches: (first step, step to stop before) -> the
    batches of these steps. validate: (check, known) -> scores of the held-out volumes; calls `check` now and then, and
    puts what it has scored into `known`; None where none are held out. keep: writes the model folder, given the step
    and the Dice that it was chosen by. owner: this process's claim on the run; None where nobody else can have one.
    """

    def __init__(
        self, step: Step, train: TrainSection, seed: int, states: Path, recorder: Recorder | None, *,
        batches: Callable[[int, int], Iterator[Batch]],
        validate: Callable[[Callable[[], None], ScoredCases], Validation] | None,
        keep: Callable[[int, float | None], None], owner: Owner | None = None,
    ) -> None:  # fmt: skip
        self.step, self.train, self.seed, self.states, self.recorder = step, train, seed, states, recorder
        self.ranks, self.owner = step.ranks, owner
        self.notice = Notice(states.parent if recorder else None, self._check_owner)
        self.batches, self.validate, self.keep = batches, validate, keep
        self.progress = Progress(steps=None if train.minutes else train.steps)
        self.average = Average(step.net, train.average) if train.average else None
        self.stream: Iterator[Batch] | None = None
        self.timed_from: Progress | None = None  # where the measurement for train.minutes begins
        self.saved_at = time.monotonic()
        self.saved: Progress | None = None  # what the newest state on disk says
        self.digest = ""  # of its tensors

    def resume(self, saved: State, *, has_model: bool) -> None:
        """Go on from a saved state; has_model: whether the best model so far is still there."""
        tensors = saved.tensors.items()
        pick = {part: {k.removeprefix(part): v for k, v in tensors if k.startswith(part)} for part in PARTS}
        check_same_network(pick["net/"], self.step.net.state_dict(), self.states)
        self.step.net.load_state_dict(pick["net/"])
        restore_optimiser(self.step.net, self.step.optimiser, pick["optimiser/"])
        if self.average:
            self.average.restore(pick["average/"])
        self.step.scaler.load_state_dict(saved.facts["scaler"])
        self.progress = self.saved = Progress(**saved.facts["progress"])
        self.digest = saved.digest
        if self.recorder and self.progress.validated == saved.step:
            remove(state_folder(self.states, saved.step) / FILE)  # a kill came just before
        if not has_model:  # the next validation then writes one, and the last one is made again
            if self.progress.validated:
                log.warning(
                    "the model folder is gone, torn, or holds a later model than this state knows; it held that of "
                    "step %d, and that of the next validation takes its place", self.progress.best_step,
                )  # fmt: skip
            self.progress = replace(self.progress, validated=0, best_dice=None, best_step=0, stale_validations=0)
        self._tell_circumstances(saved.facts.get("circumstances", {}))
        if self.recorder and "recorded" in saved.facts:
            self.recorder.resume(saved.facts["recorded"])
            if self.progress.steps is not None:
                self.recorder.length(self.progress.steps)

    def _tell_circumstances(self, before: dict[str, Any]) -> None:
        """Say where the run will not have the bits of one that was left alone."""
        now = self._circumstances()
        changed = [f"{name}: {before[name]} then, {now[name]} now" for name in before if before[name] != now.get(name)]
        if changed:
            log.warning(
                "the state is exact, but steps from here may differ in their last bits (%s)", "; ".join(changed)
            )
        elif not now["deterministic"]:
            log.info("the state is exact, but without train.deterministic=true steps do not repeat to the last bit")

    def save(self) -> None:
        """Write the state after the last finished step, unless it is whole on disk: a kill may come as it is written.

        Raises Superseded where another process has the run.
        """
        if self.recorder is None or self.progress == self.saved:
            return
        self._check_owner()
        began = time.monotonic()
        step = self.progress.step
        facts = {
            "progress": asdict(self.progress),
            "scaler": self.step.scaler.state_dict(),
            "amp": None if self.step.amp is None else str(self.step.amp).removeprefix("torch."),
            "circumstances": self._circumstances(),
            "recorded": self.recorder.state(),
        }
        if not save_facts(self.states, step, self.digest, facts):
            self.digest = save_state(self.states, State(step, self._tensors(), facts))
        self.notice.took("saving the state", time.monotonic() - began)
        self.saved_at = time.monotonic()
        self.saved = self.progress

    def _tensors(self) -> dict[str, Tensor]:
        """Return what a state holds beside facts, by name."""
        tensors = {f"net/{k}": v for k, v in self.step.net.state_dict().items()}
        tensors |= {f"optimiser/{k}": v for k, v in optimiser_tensors(self.step.net, self.step.optimiser).items()}
        if self.average:
            tensors |= {f"average/{k}": v for k, v in self.average.tensors().items()}
        return tensors

    def _circumstances(self) -> dict[str, Any]:
        return circumstances(self.step.device) | {"ranks": self.ranks.count, "compiled": self.train.compile}

    def _check_owner(self) -> None:
        """Raise Superseded where another process has the run."""
        if self.owner:
            self.owner.check()

    def run(self) -> Progress:
        """Train to the end, which a validation and its state are, and return how it went.

        Raises Interrupted once a requested stop has saved its state.
        """
        with StopRequest() as stop:
            try:
                while not self.finished():
                    self._advance(stop)
            except Superseded:
                raise
            except Interrupted:
                self.save()
                self.ranks.any(False)  # the others wait for the state: what started them ends all once one has left
                raise
            finally:
                self.stream = None  # ends its processes
        return self.progress

    def finished(self) -> bool:
        """True where the last step is done, or patience has run out."""
        progress = self.progress
        if self.train.patience is not None and progress.stale_validations >= self.train.patience:
            return True
        return progress.steps is not None and progress.step >= progress.steps and not self._validation_due()

    def _advance(self, stop: StopRequest) -> None:
        """Take a step, or validate where that is due."""
        self._heed(stop)
        if self._validation_due():
            self.save()  # where the validation goes on, with these very weights, if it is interrupted
            state = state_folder(self.states, self.progress.step) if self.recorder else None
            known = ScoredCases(state, self.digest, self._check_owner)
            with self.average.applied() if self.average else nullcontext():
                self._validate(stop, known)
            self.save()  # beside the model: whatever ends the run later, the two stay of one time
            known.remove()
        else:
            self._one()
            self._turn_minutes_into_steps()
            self._save_if_due()

    def _next_batch(self) -> Batch:
        """Return the batch of the next step, from a stream that goes on over validations up to the end of the run."""
        if self.stream is None:
            first = self.progress.step + 1
            self.stream = self.batches(first, (self.progress.steps or UNKNOWN_END) + 1)
        return next(self.stream)

    def _one(self) -> None:
        """Take one step and record it."""
        number = self.progress.step + 1
        began = time.perf_counter()
        batch = self._next_batch()
        waited = time.perf_counter() - began
        # Dropout depends on step and rank alone, so that no state is saved.
        seed_draws(self.step.device, self.seed * 1_000_003 + number + self.ranks.number * SEEDS_OF_A_RANK)
        lr = learning_rate(number, self.progress.steps, self.train)
        measured = self.recorder is not None and self.recorder.measures(number)
        try:
            result = self.step(number, batch, lr, measured=measured)
        except Exception as error:
            self._tell_end(error, number, batch, lr=lr, wait_s=waited, step_s=time.perf_counter() - began)
            raise
        if self.average:
            self.average.update(number)
        spent = time.perf_counter() - began
        self.progress = replace(self.progress, step=number, seconds=self.progress.seconds + spent)
        self.notice.took("a step", spent)
        if self.recorder:
            if self.recorder.writes(number):
                self._check_owner()
            self.recorder.step(number, self.progress.steps, batch, result, lr=lr, wait_s=waited, step_s=spent)

    def _tell_end(self, error: Exception, number: int, batch: Batch, **pace: float) -> None:
        """Record the step that an error ended, where its numbers or labels are to blame, and say what is wrong.

        Raises UserError with the watchdog's finding where it has one; else the error stays what it is.
        """
        if self.recorder is None:
            return
        if isinstance(error, Diverged):
            result = error.result
        elif strange_labels(batch.labels, len(self.recorder.head.labels.names)):
            result = replace(NO_RESULT, drawn=tuple(Drawn(draw.case, draw.label) for draw in batch.draws))
        else:
            return
        self.recorder.step(number, self.progress.steps, batch, result, last=True, **pace)
        disease = blame(self.recorder.watchdog.standing)
        if disease:
            raise UserError(in_one_sentence(error, number, disease)) from error

    def _heed(self, stop: StopRequest) -> None:
        """End a run that is asked to stop, or in which something is wrong where it is to end then: on all ranks."""
        self._check_stop(stop)
        if self.train.on_sickness != "stop":
            return
        standing = self.recorder.watchdog.standing if self.recorder else []
        sickness = self.ranks.of_first(next((str(finding) for finding in standing if finding.fatal), None))
        if sickness is not None:
            self.save()
            self.ranks.any(False)
            raise UserError(
                f"train.on_sickness=stop: after step {self.progress.step} the run looks ill. {sickness} Its state "
                "is saved: train.on_sickness=warn goes on with it as it is, a changed config needs train.restart=true."
            )

    def _save_if_due(self) -> None:
        every = self.train.save_every_steps
        minutes = (time.monotonic() - self.saved_at) / 60
        if (every and self.progress.step % every == 0) or minutes >= self.train.save_every_minutes:
            self.save()

    def _turn_minutes_into_steps(self) -> None:
        """Set the length of a run that was given in minutes, once enough steps were timed: the first ones are slow."""
        if self.progress.steps is not None or self.train.minutes is None:
            return
        done = self.progress
        if done.step == UNTIMED_STEPS or self.timed_from is None:
            self.timed_from = done
        timed_s = done.seconds - self.timed_from.seconds
        enough = done.step >= MEASURED_STEPS and timed_s >= min(MEASURED_S, MEASURED_SHARE * 60 * self.train.minutes)
        if self.ranks.of_first(enough):
            each = timed_s / (done.step - self.timed_from.step)
            steps = self.ranks.of_first(done.step + max(0, round((self.train.minutes * 60 - done.seconds) / each)))
            self.progress = replace(self.progress, steps=steps)
            if self.recorder:
                self.recorder.length(steps)
            log.info("train.minutes=%g at %.3g s a step: %d steps", self.train.minutes, each, steps)

    def _validation_due(self) -> bool:
        step = self.progress.step
        ends = step == self.progress.steps or (step > 0 and step % self.train.validate_every_steps == 0)
        return ends and self.progress.validated < step

    def _validate(self, stop: StopRequest, known: ScoredCases) -> None:
        """Keep the weights if they score best so far on the held-out volumes; where there is no score, the latest."""
        step, best = self.progress.step, self.progress.best_dice
        lap = self.notice.laps("a part of a validation")

        def check() -> None:
            lap()
            self._check_stop(stop)

        dice = self._score(check, known)
        if dice is None or best is None or dice > best:
            if self.recorder:
                self.keep(step, dice)
            self.progress = replace(self.progress, best_dice=dice, best_step=step, stale_validations=0)
        else:
            self.progress = replace(self.progress, stale_validations=self.progress.stale_validations + 1)
            if self.progress.stale_validations == self.train.patience:
                log.info("train.patience: no better Dice since step %d; the run ends", self.progress.best_step)
        self.progress = replace(self.progress, validated=step)
        lap()

    def _score(self, check: Callable[[], None], known: ScoredCases) -> float | None:
        """Return the mean Dice of the held-out volumes, None where none are held out or no class is in any of them.

        check: called between the operations of the validation, on all ranks alike; it raises where a stop is asked.
        """
        result = None if self.validate is None else self.validate(check, known)
        if self.recorder:
            self._check_owner()
            self.recorder.validation(self.progress.step, result)
        if result is None:
            return None
        if math.isnan(result.mean):
            log.warning("no held-out case has any class: there is nothing to choose a model by, the latest is kept")
            return None
        return result.mean

    def _check_stop(self, stop: StopRequest) -> None:
        """Raise Interrupted, on all ranks, where a signal has come to one of them."""
        if self.ranks.any(stop.asked is not None):
            asked = stop.asked or "a signal to another process"
            log.info("%s: stopping after step %d, once its state is saved", asked, self.progress.step)
            raise Interrupted(f"stopped by {asked}")


def check_same_network(saved: Mapping[str, Tensor], expected: Mapping[str, Tensor], states: Path) -> None:
    """Refuse a state of another network: a class outside the project may have been edited since."""
    differences = weight_differences(saved, expected)
    if differences:
        raise UserError(
            f"{states}: the saved state is not of the network that the config builds now: {differences}. Undo what was "
            "changed in its class, or begin anew with train.restart=true or another work folder."
        )


def in_one_sentence(error: Exception, step: int, disease: Finding) -> str:
    """Return why a step ended the run, and the cure. What the disease itself says is not said again."""
    if isinstance(error, Diverged) and disease.name in NOT_FINITE:
        why = f"step {step} ended the run: {disease}"
    elif isinstance(error, Diverged):
        why = f"{error.what}. This looks like {disease}"
    else:
        what = str(error) if isinstance(error, UserError) else f"step {step}: {type(error).__name__}: {error}."
        why = f"{what} This looks like {disease}"
    return f"{why} Once a state is saved, a changed config needs train.restart=true."
