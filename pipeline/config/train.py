"""How long and how the network is trained."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.section import Count, Device, Location, Natural, Positive, Section, Threads

LONGEST_WARMUP = 50
Share = Annotated[float, Field(gt=0, lt=1)]


class TrainSection(Section):
    steps: Count = Field(1000, description="optimiser steps")
    minutes: Positive | None = Field(
        None, description="instead of steps: turned into a step count after 20 steps and 30 seconds"
    )
    fold: Natural | Literal["all"] = Field(0, description="fold held out for validation; all: none is held out")
    device: Device = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: Threads | Literal["auto"] = Field(
        "auto", description="on the CPU; auto: its cores less sample.workers, or OMP_NUM_THREADS"
    )
    amp: Literal["auto", "off", "bf16", "fp16"] = Field("auto", description="numeric type of the forward pass")
    compile: bool = Field(False, description="torch.compile for the steps, whose first takes tens of seconds")
    deterministic: bool | Literal["auto"] = Field("auto", description="bit-identical repeats; auto: on a CPU only")
    lr: Positive = Field(3e-3, description="largest learning rate; with optimiser=sgd usually 1e-2")
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="sgd: with Nesterov's momentum")
    momentum: Share = Field(0.99, description="of optimiser=sgd")
    weight_decay: float = Field(1e-4, ge=0, description="on weights of convolutions and linear layers only")
    schedule: Literal["constant", "cosine", "polynomial", "step", "triangular2"] = Field(
        "cosine", description="what becomes of the learning rate over the run, see docs/training.md"
    )
    power: Positive = Field(0.9, description="of schedule=polynomial: (1 - share of the run)^power")
    drop_at: tuple[Share, ...] = Field((0.5, 0.75), description="of schedule=step: shares of the run at which it drops")
    drop_factor: Share = Field(0.1, description="of schedule=step: what the rate is multiplied by at each drop")
    cycles: Count = Field(4, description="of schedule=triangular2")
    warmup_steps: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="steps over which the learning rate rises from 0; auto: a tenth of steps, at most 50; none with "
        "triangular2",
    )
    accumulate: Count = Field(1, description="parts that a batch is run in, one after the other, to save memory")
    clip: Positive = Field(1.0, description="largest gradient norm")
    average: Share | None = Field(
        None, description="decay of a moving average of the weights, such as 0.999, that is validated and kept"
    )
    start_from: Location | None = Field(None, description="model folder whose weights the run begins with")
    validate_every_steps: Count = Field(250, description="whole-volume validation of the held-out fold")
    patience: Count | None = Field(None, description="validations without a better Dice before training ends")
    save_every_steps: Count | None = Field(None, description="also save the state after so many steps")
    save_every_minutes: Positive = Field(5.0, description="save the state at least this often")
    log_every_steps: Count = Field(10, description="line in the log and point in TensorBoard")
    on_sickness: Literal["warn", "stop"] = Field(
        "warn", description="when something is wrong with the run: say so and go on, or save its state and end it"
    )
    resume: bool = Field(True, description="continue an interrupted run; false: refuse to")
    restart: bool = Field(False, description="move a run that is there aside and begin anew")

    def warmup(self, steps: int | None) -> int:
        """Return the steps of warm-up of a run of `steps`, None where its length is not known yet."""
        if self.warmup_steps != "auto":
            return self.warmup_steps
        if self.schedule == "triangular2":
            return 0  # its first half-cycle is a warm-up
        return LONGEST_WARMUP if steps is None else min(LONGEST_WARMUP, steps // 10)
