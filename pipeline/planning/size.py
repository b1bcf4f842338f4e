"""Spacing, network, patch and batch that one device can afford: predicted from two measurements, then measured."""

from dataclasses import dataclass, replace
from math import inf, prod
from typing import Literal

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.log import by
from pipeline.planning.choice import AS_GIVEN, Choice
from pipeline.planning.cost import GIB, Cost, CostModel, Limits, Measure, Trial
from pipeline.planning.evidence import Evidence
from pipeline.planning.network import Family, Fitted, fit, fit_patch
from pipeline.planning.patch import batch_of, halved, ideal_patch, legal_patch
from pipeline.planning.recompute import MODES
from pipeline.planning.spacing import fitted_spacing, natural_spacing
from pipeline.volume.grid import Float3, Int3

BATCH = 2  # the smallest
COVERED = 0.25  # of the median body, by a patch: with less nnU-Net plans a second network at a lower resolution
TRIES = 4
SLACK = 1.25  # seconds that are so much over their limit may be the noise of other programs
SHRUNK = 0.8  # after a step that did not fit, and left no figure to go by
BESIDE_BYTES = 0.3 * GIB  # of training, beside the program and a step: the next batch, the probe's copy, TensorBoard
MARGIN = 0.95  # for the next one: a line is never quite straight


class TooLarge(UserError):
    """A step does not fit the memory that may be taken."""


Limiting = Literal["memory", "time", "the body"]


@dataclass(frozen=True)
class Wishes:
    """What the user has decided; None is left to the plan. net: with the options that are given."""

    net: NetSection
    spacing_mm: Float3 | None = None
    patch_vox: Int3 | None = None
    batch: int | None = None


@dataclass(frozen=True)
class Target:
    """What is planned for.

    memory_bytes, seconds: what a step may take; None is no limit. program_counts: whether the program's own memory is
        part of memory_bytes.
    tried_voxels: of the larger of the two patches that are measured first.
    measured_bytes, measured_seconds: what may be measured here at all; what would take more is predicted only.
    """

    family: Family
    memory_bytes: float
    seconds: float | None
    program_counts: bool
    tried_voxels: float
    measured_bytes: float = inf
    measured_seconds: float = inf

    @property
    def elsewhere(self) -> bool:
        """True where the device that measures stands in for another one."""
        return self.measured_seconds < inf

    def limits(self, cost: Cost) -> Limits:
        """Return what a network may take, by what a measurement says of the program around it."""
        around = cost.program_bytes + BESIDE_BYTES if self.program_counts else 0
        return Limits(self.memory_bytes - around, self.seconds)


@dataclass(frozen=True)
class Size:
    """What was chosen. measured: None where it is predicted only."""

    spacing: Choice
    trial: Trial
    batch_reason: str
    limiting: Limiting
    body_vox: Int3
    predicted: Cost
    measured: Cost | None


@dataclass(frozen=True)
class Priced:
    """A network with what its steps cost, and may cost."""

    net: NetSection
    model: CostModel
    limits: Limits
    program_bytes: int

    @property
    def voxels(self) -> float:
        """The voxels of a batch that both limits allow."""
        return self.model.within(self.limits)

    @property
    def limiting(self) -> Limiting:
        """Which of the two limits is the narrower one."""
        return "memory" if self.model.by_memory(self.limits) <= self.model.by_time(self.limits) else "time"

    def predicted(self, trial: Trial) -> Cost:
        """Return what a step is expected to cost."""
        memory, seconds = self.model.memory_bytes.at(trial.voxels), self.model.seconds.at(trial.voxels)
        return Cost(round(memory), self.program_bytes, seconds)


@dataclass(frozen=True)
class Sizing:
    """The choice of a size, and all that it is made from."""

    evidence: Evidence
    wishes: Wishes
    channels_out: int
    target: Target
    measure: Measure

    def choose(self) -> Size:
        """Return spacing, network, patch and batch within the limits; what is wished for stays, whatever it costs.

        Two small steps are measured, which gives the cost a voxel, and two more in each mode of gradient checkpointing
        as long as memory is short. The spacing then follows from the patch that can be afforded, the network from patch
        and spacing. That step is measured too, and shrunk until it fits.
        Raises UserError where no patch fits, or the network cannot be made or run.
        """
        wishes = self.wishes
        natural = Choice(wishes.spacing_mm, AS_GIVEN) if wishes.spacing_mm else natural_spacing(self.evidence)
        priced = self._priced_in_modes(natural.value)
        spacing = natural
        if wishes.spacing_mm is None:
            patch_voxels = prod(wishes.patch_vox) if wishes.patch_vox else priced.voxels / self._least_batch
            spacing = fitted_spacing(self.evidence, natural, max(1.0, patch_voxels), COVERED)
        return self._confirmed(priced, spacing)

    @property
    def _least_batch(self) -> int:
        return self.wishes.batch or BATCH

    def _fit(self, net: NetSection, spacing_mm: Float3, voxels: float) -> Fitted:
        """Return network and patch for so many voxels a patch, or for the patch that is wished for."""
        if self.wishes.patch_vox:
            return fit_patch(net, self.target.family, self.channels_out, self.wishes.patch_vox, spacing_mm)
        shape = self.evidence.median_body_vox(spacing_mm)
        return fit(net, self.target.family, self.channels_out, shape, spacing_mm, voxels)

    def _priced_in_modes(self, spacing_mm: Float3) -> Priced:
        """Price the network in the quickest mode of gradient checkpointing in which memory is not short.

        Where it is short in all of them, in the one that affords most; a mode that the network cannot have is passed
        over. Raises UserError where two small steps fit in no mode, or the network cannot be made.
        """
        net = self.wishes.net
        decided = "checkpoint" in net.model_fields_set and net.checkpoint != "auto"
        best: Priced | None = None
        refusals: list[UserError] = []
        modes = (net.checkpoint,) if decided else MODES
        for mode in modes:
            try:
                priced = self._priced(net.model_copy(update={"checkpoint": mode}), spacing_mm)
            except UserError as refusal:
                if mode == modes[0] and not isinstance(refusal, TooLarge):
                    raise
                refusals.append(refusal)
                continue
            if best is None or self._affords(priced) > self._affords(best):
                best = priced
            if not self._memory_is_short(best, spacing_mm):
                break
        if best is None:
            raise refusals[0]
        return best

    def _affords(self, priced: Priced) -> float:
        """Return the voxels of a batch that count: a patch that is wished for may take its time."""
        return priced.model.by_memory(priced.limits) if self.wishes.patch_vox else priced.voxels

    def _memory_is_short(self, priced: Priced, spacing_mm: Float3) -> bool:
        """True where memory forbids the wished patch, or keeps one, where time does not, from covering its share."""
        affords = self._affords(priced) / self._least_batch
        if self.wishes.patch_vox:
            return affords < prod(self.wishes.patch_vox)
        return priced.limiting == "memory" and affords < COVERED * prod(self.evidence.median_body_vox(spacing_mm))

    def _priced(self, net: NetSection, spacing_mm: Float3) -> Priced:
        """Measure two small steps of a network."""
        voxels = self.target.tried_voxels
        shape = self.evidence.median_body_vox(spacing_mm)
        fitted = self._fit(net, spacing_mm, voxels)
        multiple, smallest = fitted.multiple_vox, fitted.smallest_vox
        larger = legal_patch(ideal_patch(shape, voxels), shape, voxels, multiple, smallest)
        trials = [Trial(fitted.net, patch, BATCH) for patch in (halved(larger, multiple, smallest), larger)]
        small, large = (self._measured(trial) for trial in trials)
        model = CostModel.of((trials[0], small), (trials[1], large))
        return Priced(net, model, self.target.limits(large), large.program_bytes)

    def _measured(self, trial: Trial) -> Cost:
        cost = self.measure(trial)
        if cost is None:
            raise self._too_large(trial)
        return cost

    def _too_large(self, trial: Trial) -> "TooLarge":
        return TooLarge(
            f"plan: even {trial.batch} patches of {by(trial.patch_vox)} voxels do not fit the memory limit of "
            f"{self.target.memory_bytes / GIB:.3g} GiB; expected a device with more, or a smaller network: set "
            "plan.memory_gb for another device, or net.options={channels: [8, 16, 32]}."
        )

    def _confirmed(self, priced: Priced, spacing: Choice) -> Size:
        """Choose network, patch and batch, and measure their step; take smaller ones until it is within the limits.

        What cannot be made smaller stays where it takes too long, or was wished for, and is refused where it does not
        fit.
        """
        size = self._size(priced, spacing, priced.voxels)
        for _ in range(TRIES):
            if not self._measurable(size.predicted):
                return size
            cost = self.measure(size.trial)
            excess = 1 / SHRUNK if cost is None else self._excess(cost, priced.limits)
            if cost is not None and excess <= 1:
                return replace(size, measured=cost)
            smaller = self._size(priced, spacing, MARGIN * size.trial.voxels / excess)
            if smaller.trial == size.trial:
                break
            size = smaller
        else:
            cost = self.measure(size.trial)
        if cost is None or (cost.memory_bytes > priced.limits.memory_bytes and not self.wishes.patch_vox):
            raise self._too_large(size.trial)
        return replace(size, measured=cost)

    def _size(self, priced: Priced, spacing: Choice, voxels: float) -> Size:
        """Return what a batch of at most so many voxels would be."""
        body = self.evidence.median_body_vox(spacing.value)
        fitted = self._fit(priced.net, spacing.value, voxels / self._least_batch)
        patch_voxels = prod(fitted.patch_vox)
        batch, reason = batch_of(voxels, patch_voxels, float(self.evidence.bodies_at(spacing.value).prod(axis=1).sum()))
        if self.wishes.batch:
            batch, reason = self.wishes.batch, AS_GIVEN
        trial = Trial(fitted.net, fitted.patch_vox, batch)
        whole = all(patch >= size for patch, size in zip(fitted.patch_vox, body, strict=True))
        limiting: Limiting = "the body" if whole else priced.limiting
        return Size(spacing, trial, reason, limiting, body, priced.predicted(trial), None)

    def _measurable(self, cost: Cost) -> bool:
        """True where a step is expected to be possible on the device at hand, in reasonable time."""
        target = self.target
        return cost.memory_bytes <= target.measured_bytes and cost.seconds <= target.measured_seconds

    def _excess(self, cost: Cost, limits: Limits) -> float:
        """Return by which factor a step is over its limits; 1 or less is within them."""
        seconds = 0.0 if limits.seconds is None else cost.seconds / (SLACK * limits.seconds)
        return inf if limits.memory_bytes <= 0 else max(cost.memory_bytes / limits.memory_bytes, seconds)
